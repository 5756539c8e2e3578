"""The in-process client on a tiny real model: batching, seeds, stopping, scores."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from builder.errors import InputError
from builder.llm.calls import ModelCalls
from builder.llm.likelihood import continuation_log_probabilities
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling, ScoreRequest
from builder.llm.record import Record
from builder.llm.sampling import GumbelNoise
from builder.llm.transformers_client import TransformersClient
from builder.llm.weights import find_model
from builder.recipe import ModelRecipe, ModelsRecipe
from builder.schema import preference_messages
from tests.tiny_model import TEMPLATE_DROPPING_SYSTEM, TEMPLATE_REFUSING_SYSTEM, build_tiny_model

QUESTIONS = [
    "What do you think?",
    "Should everyone do what the manager says, or not, and why?",
    "Rules?",
    "A fair share of shifts?",
]


def model_recipe(folder: Path, **settings) -> ModelRecipe:
    return ModelRecipe(provider="transformers", model="test/tiny", path=str(folder), **settings)


def calls_to(folder, tmp_path, name="r", **settings):
    models = dataclasses.replace(
        ModelsRecipe(), generator=model_recipe(folder, **settings), judge=model_recipe(folder, **settings)
    )
    return ModelCalls(models, Record(tmp_path / f"{name}.sqlite"))


def chats(count, temperature=1.0, **sampling):
    return [
        ChatRequest(
            tuple(preference_messages(None, QUESTIONS[i % 4])),
            Sampling(**{"max_tokens": 12, "temperature": temperature, "top_p": 0.95, **sampling}),
            "answer@1",
            seed=5,
            sample_index=i // 4,
        )
        for i in range(count)
    ]


def texts(replies):
    return [r.text for r in replies]


def test_same_seed_same_answers_and_another_seed_others(tiny_model, tmp_path):
    requests = chats(12)
    first = texts(calls_to(tiny_model, tmp_path, "a").generate("generator", requests, "x"))
    assert texts(calls_to(tiny_model, tmp_path, "b").generate("generator", requests, "x")) == first
    others = [dataclasses.replace(r, seed=6) for r in requests]
    assert texts(calls_to(tiny_model, tmp_path, "c").generate("generator", others, "x")) != first
    assert len(set(first)) > 6


def test_global_random_state_is_neither_read_nor_changed(tiny_model, tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = texts(calls_to(tiny_model, tmp_path, "a").generate("generator", chats(4), "x"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert texts(calls_to(tiny_model, tmp_path, "b").generate("generator", chats(4), "x")) == first


def test_a_run_that_was_cut_off_goes_on_to_the_same_answers(tiny_model, tmp_path):
    requests = chats(16)
    whole = texts(calls_to(tiny_model, tmp_path, "whole", batch_size=4).generate("generator", requests, "x"))
    # What a kill leaves behind: some batches recorded, others not.
    partial = calls_to(tiny_model, tmp_path, "partial", batch_size=4)
    client = partial.client("generator")
    from builder.llm.record import record_key

    keys = [record_key(r, client.identity) for r in requests]
    client.generate(
        requests,
        keys,
        {3, 9},
        lambda batch: partial.record.add((keys[i], requests[i], reply, {}) for i, reply in batch),
    )
    assert sum(partial.record.count()) == 2
    assert texts(partial.generate("generator", requests, "x")) == whole
    assert (partial.spending.calls, partial.spending.hits) == (14, 2)


def test_greedy_answers_equal_those_of_the_library(tiny_model, tmp_path):
    request = chats(1, temperature=0.0)[0]
    reply = calls_to(tiny_model, tmp_path).generate("generator", [request], "x")[0]
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    prompt = tokenizer.apply_chat_template(
        list(request.messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    expected = model.generate(**prompt, do_sample=False, max_new_tokens=12)[0, prompt["input_ids"].shape[1] :]
    assert reply.text == tokenizer.decode(expected, skip_special_tokens=True).strip()


def test_draws_follow_the_models_distribution(tiny_model, tmp_path):
    """First tokens of 2,000 draws against the model's own probabilities (chi-square on the ten likeliest, temperature 0.3)."""
    request = ChatRequest(tuple(preference_messages(None, "Rules?")), Sampling(1, 0.3), "answer@1", seed=1)
    calls = calls_to(tiny_model, tmp_path, batch_size=500)
    replies = calls.generate("generator", [dataclasses.replace(request, sample_index=i) for i in range(2000)], "x")
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    prompt = tokenizer.apply_chat_template(
        list(request.messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        probabilities = torch.softmax(model(**prompt).logits[0, -1] / 0.3, -1)
    drawn = [r.text for r in replies]
    statistic = 0.0
    for token in probabilities.topk(40).indices.tolist():
        text = tokenizer.decode([token], skip_special_tokens=True)
        if not text.strip() or text != text.strip() or "�" in text:
            continue
        # Several tokens may decode to the same stripped text.
        alike = [t for t in range(len(tokenizer)) if tokenizer.decode([t], skip_special_tokens=True).strip() == text]
        expected = 2000 * probabilities[alike].sum().item()
        if expected < 5:
            continue
        statistic += (drawn.count(text) - expected) ** 2 / expected
    # 40 cells at most: beyond 80 has a probability under 2e-4.
    assert statistic < 80


@pytest.mark.parametrize("other", [-torch.inf, -40.0])
def test_a_token_that_is_ruled_out_or_next_to_impossible_is_never_drawn(other):
    """A large vocabulary and many draws: noise of too little precision would now and then lift any token above all others."""
    scores = torch.full((1, 50_000), other)
    scores[0, 7] = 0.0
    noise = GumbelNoise([np.random.default_rng(0)])
    assert all(int(noise(None, scores).argmax()) == 7 for _ in range(1500))


def test_an_answer_that_is_cut_is_truncated_and_one_that_ends_a_sentence_is_not(tiny_model, tmp_path):
    replies = calls_to(tiny_model, tmp_path).generate("generator", chats(24, max_tokens=3), "x")
    assert {type(r) for r in replies} <= {Answer, Failure}
    cut = [r for r in replies if isinstance(r, Failure)]
    assert cut
    assert {r.reason for r in cut} <= {"truncated", "empty"}
    ended = calls_to(tiny_model, tmp_path, "s").generate(
        "generator", chats(200, max_tokens=40, end_sentence_after=3), "x"
    )
    sentences = [r.text for r in ended if isinstance(r, Answer) and r.usage.completion_tokens >= 3]
    assert any(text.rstrip("\"')")[-1:] in ".!?" for text in sentences)


def naive_scores(model, tokenizer, messages, continuation):
    prefix = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    start = tokenizer(prefix, add_special_tokens=False)["input_ids"]
    end = tokenizer(continuation, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        table = torch.log_softmax(model(torch.tensor([start + end])).logits[0], -1)
    return [table[len(start) + i - 1, token].item() for i, token in enumerate(end)]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_equal_a_plain_pass_over_each_text(tiny_model, tmp_path, batch_size):
    requests = [
        ScoreRequest(tuple(preference_messages(profile, question)), answer, "t")
        for profile in (None, "You are a nurse. " * 5)
        for question in QUESTIONS
        for answer in ("I would ask.", "x", "Everyone should do what the manager says, because rules are rules.")
    ]
    scores = calls_to(tiny_model, tmp_path, batch_size=batch_size).score("judge", requests, "x")
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    for request, score in zip(requests, scores, strict=True):
        assert score.log_probabilities == pytest.approx(
            naive_scores(model, tokenizer, request.messages, request.continuation), abs=1e-4
        )


def test_a_prefix_is_counted_once(tiny_model, tmp_path):
    messages = tuple(preference_messages(None, "Rules?"))
    scores = calls_to(tiny_model, tmp_path).score(
        "judge", [ScoreRequest(messages, t, "t") for t in ("a", "b", "c")], "x"
    )
    assert [s.usage.prompt_tokens for s in scores[1:]] == [1, 1]
    assert scores[0].usage.prompt_tokens > 10


def test_the_cache_of_a_prefix_survives_its_first_continuations(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    group = ([5, 6, 7, 8], [[9, 10, 11], [12, 13], [9, 10, 11]])
    (rows,) = continuation_log_probabilities(model, 0, [group], batch_size=1)
    assert rows[0] == pytest.approx(rows[2], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chat_template": TEMPLATE_REFUSING_SYSTEM}, "does not take a system message"),
        ({"chat_template": TEMPLATE_DROPPING_SYSTEM}, "drops the system message"),
        ({"pad_token": "<|im_end|>"}, "no padding token of its own"),
    ],
)
def test_models_that_would_spoil_a_build_are_refused(tmp_path, settings, message):
    client = TransformersClient(model_recipe(build_tiny_model(tmp_path / "m", **settings)))
    with pytest.raises(InputError, match=message):
        client.check()


def test_what_is_no_model_folder(tmp_path):
    with pytest.raises(InputError, match=r"neither a \.gguf file nor a folder"):
        find_model("x/y", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        find_model("x/y", str(tmp_path))


def test_an_unknown_hub_model_says_what_to_check():
    with pytest.raises(InputError, match=r"nobody/nothing.*could not be loaded from the Hub"):
        find_model("nobody/nothing")


def test_the_same_weights_have_the_same_hash_wherever_they_lie(tiny_model, tmp_path):
    import shutil

    copy = shutil.copytree(tiny_model, tmp_path / "elsewhere")
    assert find_model("a", str(copy)).content_hash == find_model("a", str(tiny_model)).content_hash
