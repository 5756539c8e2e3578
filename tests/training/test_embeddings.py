"""Frozen embeddings: what they are, what does not move them, and the folder that keeps them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from builder.errors import InputError
from training import embeddings
from training.conditioning import Conditioning
from training.embeddings import embed, standardisation
from training.prompts import PersonaPrompts
from training.scoring import load_base_model

PROMPTS = PersonaPrompts(Conditioning("full"), {}, {})
TEXTS = [
    (f"What do you think about {subject}?", answer)
    for subject in ("pets", "working late on a holiday", "taxes")
    for answer in ("No.", "I would ask for a fair share of the shifts.", "Rules are rules, and a manager decides them.")
]


@pytest.fixture(scope="module")
def base(tiny_model):
    return load_base_model(str(tiny_model), "cpu")


def test_an_embedding_is_the_mean_of_the_answers_last_states(base):
    question, answer = TEXTS[1]
    found = embed(base, PROMPTS, [TEXTS[1]])
    messages = PROMPTS.messages(None, "q", question)
    prompt = base.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = base.tokenizer.apply_chat_template(
        [*messages, {"role": "assistant", "content": answer}], return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        states = base.model(**whole, output_hidden_states=True).hidden_states[-1][0]
    np.testing.assert_allclose(found[0], states[len(prompt) :].mean(dim=0).numpy(), atol=1e-5)


def test_batch_size_and_order_do_not_move_an_embedding(base):
    alone = np.concatenate([embed(base, PROMPTS, [text], batch_size=1) for text in TEXTS])
    assert np.ptp(alone, axis=0).max() > 0.01
    for size in (2, 4, 16):
        np.testing.assert_allclose(embed(base, PROMPTS, TEXTS, size), alone, atol=1e-4)
    np.testing.assert_allclose(embed(base, PROMPTS, TEXTS[::-1], 4), alone[::-1], atol=1e-4)


def test_each_text_is_computed_once_and_kept(base, tmp_path, monkeypatch):
    computed = []
    real = embeddings._computed
    monkeypatch.setattr(embeddings, "_computed", lambda m, items, size: computed.extend(items) or real(m, items, size))
    monkeypatch.setattr(embeddings, "BLOCK", 2)
    first = embed(base, PROMPTS, TEXTS[:5] + TEXTS[:5], cache=tmp_path)
    assert len(computed) == 5
    assert len(list(tmp_path.glob("*.parquet"))) == 3
    np.testing.assert_array_equal(first[:5], first[5:])
    both = embed(base, PROMPTS, TEXTS, cache=tmp_path)
    assert len(computed) == len(TEXTS)
    np.testing.assert_array_equal(both[:5], first[:5])
    np.testing.assert_allclose(both, embed(base, PROMPTS, TEXTS), atol=1e-4)


def test_another_base_does_not_read_the_cache(base, tmp_path):
    first = embed(base, PROMPTS, TEXTS[:1], cache=tmp_path)
    base_model = base.record["base_model"] | {"content_hash": "another"}
    other = replace(base, record={"base_model": base_model})
    with torch.no_grad():
        other.model.base_model.norm.weight.mul_(2)
    try:
        np.testing.assert_allclose(embed(other, PROMPTS, TEXTS[:1], cache=tmp_path), 2 * first, rtol=1e-4)
    finally:
        with torch.no_grad():
            other.model.base_model.norm.weight.div_(2)


def test_a_base_that_gives_no_numbers_is_refused(tiny_model):
    broken = load_base_model(str(tiny_model), "cpu")
    with torch.no_grad():
        broken.model.base_model.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        embed(broken, PROMPTS, TEXTS[:1])


def test_standardisation_leaves_a_constant_dimension_alone():
    values = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    mean, scale = standardisation(values)
    np.testing.assert_array_equal(mean, [2.0, 5.0])
    np.testing.assert_array_equal(scale, [1.0, 1.0])
