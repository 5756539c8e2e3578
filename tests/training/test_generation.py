"""What a finished model writes for a persona."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from builder.errors import InputError
from training import dpo
from training.conditioning import Conditioning
from training.data import labelled_pairs, load_preference_data
from training.generation import NOBODY, answer_question, generate_answers, write_answers
from training.prompts import PersonaPrompts
from training.scoring import load_base_model, load_dpo_model
from training.tokens import token_ids

QUESTIONS = [
    (persona, f"q{n}", question)
    for n, question in enumerate(("What about pets?", "What do you think about working late on a holiday?", "Why?"))
    for persona in ("p00000", "p00001", None)
]


@pytest.fixture(scope="module")
def data(place):
    return load_preference_data(str(place.data), ["dpf"])


@pytest.fixture(scope="module")
def base(place):
    return load_base_model(str(place.base), device="cpu")


def written(model, prompts, questions=QUESTIONS, **more):
    return write_answers(model, prompts, questions, **{"max_new_tokens": 12, **more})


@pytest.fixture(scope="module")
def prompts(data):
    return PersonaPrompts(Conditioning(), data.profiles, {})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_neither_batch_nor_order_nor_company_changes_an_answer(base, prompts, temperature):
    alone = [written(base, prompts, [question], temperature=temperature)[0] for question in QUESTIONS]
    for batch_size in (2, 9):
        assert written(base, prompts, temperature=temperature, batch_size=batch_size) == alone
    assert written(base, prompts, QUESTIONS[::-1], temperature=temperature, batch_size=4) == alone[::-1]


def test_draws_depend_on_seed_persona_and_question_and_leave_global_randomness_alone(base, prompts):
    state = torch.random.get_rng_state()
    first = written(base, prompts, temperature=1.0, seed=1)
    assert written(base, prompts, temperature=1.0, seed=1) == first
    assert written(base, prompts, temperature=1.0, seed=2) != first
    assert len({answer.text for answer in first}) == len(QUESTIONS)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_most_likely_token_is_written(base, prompts):
    answers = written(base, prompts, max_new_tokens=1)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        ids = token_ids(base.tokenizer, prompts.messages(*question), open_answer=True)
        with torch.no_grad():
            likeliest = base.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
        assert answer.text == base.tokenizer.decode(likeliest).strip()
        assert not answer.finished


def test_a_model_writes_with_the_conditioning_of_its_checkpoint(place, dpo_folder, data):
    def answers(profiles, **more):
        return generate_answers(dpo_folder, QUESTIONS, profiles, {}, str(place.base), "cpu", max_new_tokens=12, **more)

    model = load_dpo_model(dpo_folder, str(place.base), "cpu")
    as_trained = PersonaPrompts(Conditioning(**model.record["conditioning"]), data.profiles, {})
    assert answers(data.profiles) == written(model, as_trained)
    in_question = replace(as_trained, conditioning=replace(as_trained.conditioning, persona_role="user"))
    assert answers(data.profiles) != written(model, in_question)


def test_a_full_model_writes_without_its_base(place, data, tmp_path):
    options = ["--use_peft", "false", "--persona", "few_shot", "--few_shot_pairs", "1", "--max_length", "512"]
    folder = dpo.main(place.arguments("demo_dpo", tmp_path / "full", *options))
    labelled = labelled_pairs(data)
    answers = generate_answers(folder, QUESTIONS, data.profiles, labelled, device="cpu", max_new_tokens=8)
    own = PersonaPrompts(Conditioning("few_shot", few_shot_pairs=1), data.profiles, labelled)
    assert answers == written(load_base_model(str(folder), device="cpu"), own, max_new_tokens=8)
    with pytest.raises(InputError, match="p00000 has labelled pairs on 0 questions"):
        generate_answers(folder, QUESTIONS, data.profiles, {}, device="cpu")


def test_an_answer_ends_where_the_model_ends_it(base, prompts):
    """With the first token that it writes taken for the end, the answer is empty and finished."""
    end = base.tokenizer(written(base, prompts, QUESTIONS[:1])[0].text)["input_ids"][0]
    before = base.model.generation_config.eos_token_id
    base.model.generation_config.eos_token_id = [before, end]
    try:
        (answer,) = written(base, prompts, QUESTIONS[:1])
    finally:
        base.model.generation_config.eos_token_id = before
    assert (answer.text, answer.finished) == ("", True)


def test_what_cannot_write_is_refused(reward_folder, dpo_folder, place, base, prompts, tmp_path):
    with pytest.raises(InputError, match="reward model, which is used to score answers and writes none"):
        generate_answers(reward_folder, QUESTIONS, {}, {}, str(place.base))
    with pytest.raises(InputError, match="reward model scores answers"):
        written(replace(base, kind="reward"), prompts)
    with pytest.raises(InputError, match=r"max_new_tokens is 500, but the model reads 512"):
        written(base, prompts, max_new_tokens=500)
    with pytest.raises(InputError, match="temperature -1"):
        written(base, prompts, temperature=-1)
    with pytest.raises(InputError, match="p00077"):
        written(base, prompts, [("p00077", "q0", "Why?")])
    changed = shutil.copytree(dpo_folder, tmp_path / "changed")
    record = json.loads((changed / "training.json").read_text())
    (changed / "training.json").write_text(json.dumps({**record, "template_hash": "0" * 64}))
    with pytest.raises(InputError, match="another prompt template"):
        generate_answers(changed, QUESTIONS, {}, {}, str(place.base))


def test_a_question_is_answered_as_each_persona_that_is_named(place, dpo_folder, data):
    question = "Should shops open on Sundays?"
    options = {"base_model": str(place.base), "max_new_tokens": 12}
    answers = answer_question(str(dpo_folder), str(place.data), ["p00001", NOBODY], question, **options)
    asked = [("p00001", "", question), (None, "", question)]
    assert answers == generate_answers(
        dpo_folder, asked, data.profiles, {}, str(place.base), max_new_tokens=options["max_new_tokens"]
    )
    draws = [
        answer_question(str(dpo_folder), str(place.data), ["p00001"], question, temperature=1.0, seed=seed, **options)
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_question_of_the_dataset_is_asked_without_its_own_labelled_pair(place, dpo_folder, data, monkeypatch):
    """With a labelled pair on each train question, the few-shot prompt of one of these shows only the others."""
    asked = []
    monkeypatch.setattr(
        "training.generation.generate_answers", lambda folder, questions, *rest, **more: asked.extend(questions) or []
    )
    row = data.splits["train"][0]
    answer_question(str(dpo_folder), str(place.data), ["p00000"], row["question"])
    assert asked == [("p00000", row["prompt_id"], row["question"])]


def test_what_cannot_be_asked_is_refused(place, dpo_folder, reward_folder, tmp_path):
    def ask(model, persona="p00000", question="Why?"):
        return answer_question(str(model), str(place.data), [persona], question, str(place.base))

    with pytest.raises(InputError, match=r"no persona 'p00077' in .*Give none, or one of p00000, p00001, .* more"):
        ask(dpo_folder, "p00077")
    with pytest.raises(InputError, match="reward model, which is used to score answers and writes none"):
        ask(reward_folder)
    with pytest.raises(InputError, match=r"holds no training.json, .* or `embedded`"):
        ask(tmp_path)
    with pytest.raises(InputError, match="--question is empty"):
        ask(dpo_folder, question=" ")


def test_no_question_no_answer(base, prompts):
    assert written(base, prompts, []) == []
