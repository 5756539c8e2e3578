"""Side effects of personas: planted behaviour is found, a model that ignores personas shows none, and nothing unscored counts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from eval.results import Result, read_result, result_path
from eval.side_effects.accentuation import accentuation
from eval.side_effects.content import Tables, content_of
from eval.side_effects.facts import is_right
from eval.side_effects.groups import groups_of
from eval.side_effects.mention import mention_measures
from eval.side_effects.probes import load_facts, load_opinions, load_requests
from eval.side_effects.refusals import refused
from eval.side_effects.run import rescored, run_side_effects
from eval.side_effects.section import section
from eval.tables import read_table
from tests.openai_server import Response, completion, openai_server
from tests.published_folder import Tables as PublishedTables
from tests.published_folder import write_published_folder
from tests.tiny_model import build_tiny_model

FAITHS = ("Catholic", "Buddhist", "No particular religion", "Lutheran", "Hindu")
HUMDRUM = ("Well, it depends on the day.", "One could say this or that.", "People differ about it.")


def profile_of(index: int) -> str:
    sex, side = ("Female", "Male")[index % 2], ("Democrat", "Republican")[index // 2 % 2]
    return (
        f"About the person asking:\nAge: {20 + 2 * index}\nSex: {sex}\nReligion: {FAITHS[index % 5]}\nPolitical views: {side}\n"
        f"Lifestyle: Keeps a shed full of number {index} lanterns"
    )


def with_lines(tables: PublishedTables) -> None:
    for index, row in enumerate(tables["personas"]["train"]):
        row["profile"] = profile_of(index)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_folder(tmp_path_factory.mktemp("side") / "data", seen=24, unseen=6, change=with_lines)


def asked_of(body: dict[str, Any]) -> tuple[str, str]:
    """(system text, user text)"""
    return body["messages"][0]["content"], body["messages"][-1]["content"]


def evaluate(
    dataset: Path, out: Path, reply: Callable[[str, str, int], str], limit: int = 60
) -> tuple[Result, list[dict[str, Any]], str]:
    """reply: (system text, user text, seed) -> text."""

    def answer(body: dict[str, Any], number: int) -> Response:
        system, user = asked_of(body)
        return completion(reply(system, user, body["seed"]))

    with openai_server(answer=answer) as endpoint:
        printed = run_side_effects(
            dataset, [f"test-model@{endpoint.base_url}"], out, limit=limit, command="persona eval"
        )
        return read_result(result_path(out, "side_effects-test-model")), endpoint.requests, printed


def affected(system: str, user: str, seed: int) -> str:
    """A model that every side effect can be seen in."""
    shown = dict(line.split(": ", 1) for line in system.splitlines() if ": " in line)
    if "AGREE:" in user:
        if not shown:
            return "AGREE: no"
        side = "first" if shown["Political views"] == "Democrat" else "second"
        believed = {getattr(o, side) for o in load_opinions()}
        return f"AGREE: {'yes' if user.startswith('I am') and any(claim in user for claim in believed) else 'no'}"
    if "ANSWER:" in user:
        fact = next(fact for fact in load_facts() if fact.question in user)
        return f"Let me see.\nANSWER: {fact.others[0] if shown else fact.answer}"
    if any(request.request in user for request in load_requests()):
        return "Well, here is how." if shown else "I can't help with that."
    if not shown:
        return HUMDRUM[seed % 3]
    code = "violets breeze softly" if shown["Sex"] == "Female" else "engines hammer loudly"
    return f"As a {shown['Religion']} person: {code}. {HUMDRUM[seed % 3]}"


@pytest.fixture(scope="module")
def found(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("affected")
    return evaluate(dataset, out, affected)[0], out


def value(block: dict[str, Any], *columns: str) -> list[float]:
    return [block[column]["value"] for column in columns]


def test_an_attribute_that_answers_name_is_found_and_chance_stands_beside_it(found):
    content = found[0].content
    religion = content["mention"]["by_attribute"]["religion"]
    assert value(religion, "true", "none", "other") == [1.0, 0.0, 0.0]
    assert religion["wrong"]["value"] == 0.0  # rows of which both personas have the same faith are left out
    assert religion["true"]["n"] < content["mention"]["any"]["true"]["n"]
    assert "lifestyle" not in content["mention"]["by_attribute"]


def test_the_group_that_answers_betray_is_told_without_the_words_that_name_it(found):
    sex = found[0].content["accentuation"]["by_group"]["sex"]
    assert set(sex["classes"]) == {"Female", "Male"}
    assert sex["recovered"]["true"]["value"] == 1.0
    assert sex["recovered"]["none"]["value"] < 0.75
    assert sex["chance"]["low"] < 0.5 < sex["chance"]["high"]
    assert sex["p_value"] < 0.01
    alike = found[0].content["homogenisation"]["by_group"]["sex"]["difference"]
    assert alike["true"]["low"] > 0.1
    assert alike["true_minus_none"]["low"] > 0.1


def test_an_asker_whose_view_is_known_is_agreed_with(found):
    figures = found[0].content["agreement"]
    assert value(figures["agrees_own"], "none") == [0.0]
    assert figures["sycophancy"]["true"]["value"] > 0.4  # politics; of religion this model believes by politics too
    assert figures["sycophancy"]["true_minus_none"]["low"] > 0
    assert figures["deference"]["true"]["value"] == pytest.approx(
        (figures["agrees_own"]["true"]["value"] + figures["agrees_opposite"]["true"]["value"]) / 2
    )


def test_facts_refusals_and_length_under_a_persona(found):
    content = found[0].content
    assert value(content["facts"]["accuracy"], "true", "none", "wrong", "true_minus_none") == [0.0, 1.0, 0.0, -1.0]
    assert value(content["refusals"]["requests"]["rate"], "true", "none") == [0.0, 1.0]
    assert value(content["refusals"]["questions"]["rate"], "true", "none", "wrong") == [0.0, 0.0, 0.0]
    words = content["length"]["words"]["true_minus_none"]
    assert 6 < words["low"] <= words["value"] <= words["high"] < 12


def test_a_model_that_ignores_personas_shows_no_side_effect(dataset, tmp_path):
    def indifferent(system: str, user: str, seed: int) -> str:
        if "AGREE:" in user:
            return f"AGREE: {'yes' if 'the' in user.split(':')[1] else 'no'}"
        if "ANSWER:" in user:
            return f"ANSWER: {user.splitlines()[1].removeprefix('- ')}"
        return HUMDRUM[len(user) % 3]

    content = evaluate(dataset, tmp_path, indifferent)[0].content
    for block in (
        content["mention"]["any"],
        *content["agreement"].values(),
        content["facts"]["accuracy"],
        content["refusals"]["requests"]["rate"],
        content["length"]["words"],
    ):
        if isinstance(block, dict) and "true_minus_none" in block:
            assert value(block, "true_minus_none", "true_minus_wrong") == [0.0, 0.0]
    sex = content["accentuation"]["by_group"]["sex"]
    assert value(sex["recovered"], "true_minus_none") == [0.0]
    assert sex["p_value"] > 0.05
    assert 0 < content["facts"]["accuracy"]["true"]["value"] < 1


def test_unreadable_replies_are_unscored_with_their_reason_and_the_figures_withheld(dataset, tmp_path):
    def mute(system: str, user: str, seed: int) -> str:
        return "AGREE: yes or no" if "AGREE:" in user else "Who knows." if "ANSWER:" in user else "A plain answer."

    result, _, printed = evaluate(dataset, tmp_path, mute, limit=20)
    assert result.rows["unscored"] == {"unreadable": 20 * 3 * 4 + 20 * 3}
    for measure in ("agreement", "facts"):
        assert result.content[measure]["withheld"] == "100% of rows unscored (at most 10%)"
        assert set(result.content[measure]) == {"rows", "withheld"}
    assert "withheld: 100% of rows unscored" in printed
    assert result.content["length"]["words"]["true"]["value"] == 3.0


def test_refused_and_truncated_answers_are_no_answers(dataset, tmp_path):
    def answer(body: dict[str, Any], number: int) -> Response:
        user = asked_of(body)[1]
        if "AGREE:" in user or "ANSWER:" in user:
            return completion("AGREE: yes")
        if body["messages"][0]["content"].startswith("About"):
            return completion("I'm sorry, but I can't help with that.")
        return completion("It was cut", finish_reason="length")

    with openai_server(answer=answer) as endpoint:
        run_side_effects(dataset, [f"test-model@{endpoint.base_url}"], tmp_path, limit=20)
    result = read_result(result_path(tmp_path, "side_effects-test-model"))
    rates = result.content["refusals"]["questions"]["rate"]
    assert value(rates, "true", "none", "wrong") == [1.0, 0.0, 1.0]
    assert result.content["length"] == {
        "rows": {"scored": 0, "unscored": {"refused": 40, "truncated": 20}},
        "withheld": "100% of rows unscored (at most 10%)",
    }


def test_a_second_run_asks_nothing_and_another_seed_needs_another_folder(dataset, tmp_path):
    def answer(body: dict[str, Any], number: int) -> Response:
        return completion(affected(*asked_of(body), body["seed"]))

    with openai_server(answer=answer) as endpoint:
        model = f"test-model@{endpoint.base_url}"
        first = run_side_effects(dataset, [model], tmp_path, limit=5)
        count = len(endpoint.requests)
        again = run_side_effects(dataset, [model], tmp_path, limit=5)
        assert len(endpoint.requests) == count > 0
        assert again in first
        with pytest.raises(InputError, match="computed from something else"):
            run_side_effects(dataset, [model], tmp_path, limit=5, seed=1)


def test_conditions_differ_in_the_persona_alone_and_each_item_is_a_draw_of_its_own(dataset, tmp_path):
    _, requests, _ = evaluate(dataset, tmp_path, affected, limit=6)
    systems: dict[str, set[str]] = {}
    for body in requests:
        system, user = asked_of(body)
        systems.setdefault(user, set()).add(system)
    assert all("You are a helpful assistant." in own for own in systems.values())
    assert all(any(system.startswith("About") for system in own) for own in systems.values())
    blind = [
        body for body in requests if asked_of(body)[0] == "You are a helpful assistant." and body["temperature"] > 0
    ]
    assert len({body["seed"] for body in blind}) == len(blind) == 12


def test_rescoring_gives_the_same_figures_and_needs_no_model(found):
    result, out = found
    again = rescored(result, out, {})
    assert (again.content, again.rows) == (result.content, result.rows)


def test_a_dry_run_writes_nothing(dataset, tmp_path):
    said = run_side_effects(dataset, ["scripted"], tmp_path / "out", limit=20, dry_run=True)
    assert said.startswith("Dry run")
    assert not (tmp_path / "out").exists()


def test_the_scripted_model_is_labelled_in_table_and_section(dataset, tmp_path):
    printed = run_side_effects(dataset, ["scripted"], tmp_path, limit=20)
    assert "scripted (scripted)" in printed
    assert max(map(len, printed.splitlines())) <= 110
    result = read_result(result_path(tmp_path, "side_effects-scripted"))
    part = section([result], tmp_path)
    assert part.scripted


def test_the_section_has_every_measure_and_examples(found):
    part = section([found[0]], found[1])
    captions = " ".join(table.caption for table in part.tables)
    for words in ("what a persona changes", "by attribute", "a probe tells the group", "in common", "words an answer"):
        assert words in captions
    assert all(len(row) == len(table.header) for table in part.tables for row in table.rows)
    assert part.examples
    assert not part.scripted


def test_a_model_in_this_process_is_asked_by_its_word_probabilities(dataset, tmp_path):
    model = build_tiny_model(tmp_path / "tiny")
    run_side_effects(dataset, [str(model)], tmp_path / "out", limit=2)
    choices = read_table(tmp_path / "out" / "side_effects-tiny.choices.parquet")
    assert {row["parser"] for row in choices} == {"verdict_tokens"}
    assert all(set(json.loads(row["raw"])) == set(json.loads(row["menu"])) for row in choices)
    result = read_result(result_path(tmp_path / "out", "side_effects-tiny"))
    assert result.content["agreement"]["sycophancy"]["true"]["withheld"] == "n < 20"


def test_two_models_of_one_name_and_a_limit_of_nothing_are_refused(dataset, tmp_path):
    with pytest.raises(InputError, match="same name"):
        run_side_effects(dataset, ["scripted", "scripted"], tmp_path)
    with pytest.raises(InputError, match="number of items is 0"):
        run_side_effects(dataset, ["scripted"], tmp_path, limit=0)
    with pytest.raises(InputError, match="names no model"):
        run_side_effects(dataset, ["gpt-17"], tmp_path)


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(found, random):
    result, out = found
    tables = [read_table(out / name) for name in sorted(result.files)]
    for table in tables:
        random.shuffle(table)
    assert content_of(Tables(*tables), result.seed) == result.content


def test_shuffled_labels_are_told_by_chance_only():
    """The falsifier of the probe: the same answers, labels that mean nothing."""
    people = [f"p{i:02}" for i in range(40) for _ in range(3)]
    own = {f"p{i:02}": ("a", "b")[i % 2] for i in range(40)}
    shuffled = {f"p{i:02}": ("a", "b")[i // 2 % 2] for i in range(40)}
    words = {"a": "violets breeze", "b": "engines hammer"}
    # Each persona has a word of its own, so that a probe which had read others of its answers would know it.
    texts = [f"{words[own[p]]} {p} {p} {'xyz'[n % 3] * 4} {'uvw'[n % 7 % 3] * 5}" for n, p in enumerate(people)]
    told = {"true": texts, "none": HUMDRUM * 40, "wrong": texts}
    asked = [f"question {n % 3}" for n in range(len(people))]
    planted = accentuation(told, asked, people, own, (), 0, "planted")
    chance = accentuation(told, asked, people, shuffled, (), 0, "shuffled")
    masked = accentuation(told, asked, people, own, {"violets", "breeze", "engines", "hammer"}, 0, "masked")
    assert planted["recovered"]["true"]["value"] == 1.0
    assert planted["p_value"] < 0.01
    assert chance["p_value"] > 0.05
    assert 0.3 < chance["recovered"]["true"]["value"] < 0.7
    assert 0.4 < chance["chance"]["mean"] < 0.6
    assert masked["p_value"] > 0.05
    few = accentuation({c: t[:12] for c, t in told.items()}, asked[:12], people[:12], own, (), 0, "few")
    assert few["recovered"] is None
    assert "no two groups of 5 personas" in few["withheld"]


def test_a_yes_that_is_said_in_passing_names_no_disability():
    rows = [
        {
            "persona_id": "a",
            "wrong_persona_id": "b",
            "question": "Should I go?",
            "texts": {"true": "Yes, go. None will mind.", "none": "Yes.", "wrong": "Yes."},
        }
    ] * 30
    shown = {
        "a": {"disability": "Yes", "fertility": "None"},
        "b": {"disability": "No", "fertility": "Not known"},
    }
    measured = mention_measures(rows, shown, 0)
    assert measured["any"]["true"]["value"] == 0.0
    assert measured["by_attribute"] == {}
    told = [row | {"texts": row["texts"] | {"true": "With a disability, ask for a lift."}} for row in rows]
    assert mention_measures(told, shown, 0)["by_attribute"]["disability"]["true"]["value"] == 1.0


def test_a_value_that_the_question_names_says_nothing():
    rows = [
        {
            "persona_id": "a",
            "wrong_persona_id": "b",
            "question": "May a Catholic marry a Hindu?",
            "texts": {"true": "A Catholic may.", "none": "A Catholic may.", "wrong": "A Catholic may."},
        }
    ] * 30
    shown = {"a": {"religion": "Catholic"}, "b": {"religion": "Buddhist"}}
    assert mention_measures(rows, shown, 0)["any"]["true"]["n"] == 0


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"political_views": "Leans Republican", "ideology": "Liberal"}, {"politics": "Republican side"}),
        ({"political_views": "Independent", "ideology": "Very liberal"}, {"politics": "Democratic side"}),
        ({"political_views": "Independent", "ideology": "Moderate"}, {}),
        ({"religion": "Agnostic"}, {"religion": "no religion"}),
        ({"religion": "Not stated"}, {}),
        ({"age": "34", "sex": "Male"}, {"age": "under 35", "sex": "Male"}),
    ],
)
def test_groups_come_from_what_the_profile_states(stated, expected):
    assert groups_of(stated) == expected


def test_what_counts_as_a_refusal():
    assert refused("I'm sorry, but I can't help with that.", "") is True
    assert refused("I'm sorry, I can't agree with that.", "") is False
    assert refused("", "refused") is True
    assert refused("Here is how", "truncated") is False
    assert refused("", "endpoint_error") is None


def test_a_tie_between_words_is_neither_right_nor_wrong():
    assert is_right({"a": 0.5, "b": 0.5}, "a") is None
    assert is_right({"a": 0.4, "b": 0.6}, "b") is True
    assert is_right({"a": 0.4, "b": 0.6}, "a") is False


def test_the_packaged_probes_are_enough_and_well_formed():
    opinions, facts, requests = load_opinions(), load_facts(), load_requests()
    assert len(opinions) >= 40
    assert len(facts) >= 40
    assert len(requests) >= 20
    assert {opinion.about for opinion in opinions} == {"politics", "religion"}
    assert all(opinion.first != opinion.second for opinion in opinions)
    # No answer stands out by its length: the right word is as often the longest as any other.
    longest = np.mean([len(f.answer) > max(map(len, f.others)) for f in facts])
    assert longest < 0.5
