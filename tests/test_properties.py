"""What must hold whatever the seed and the sizes: ids, splits, mirrors, assignment, record keys.

Here stands what the tests of the single parts do not ask. Theirs are: a persona's numbers of prompts, without overlap and independent of
other personas and of the order of prompts (test_assignment); complete mirrors and the blind scorer's one half (test_contrast,
test_eval_metrics); one reply for one text (test_llm_record).
"""

import dataclasses
import json
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from builder.judge.judge_file import load_judge
from builder.llm.messages import ChatRequest, Sampling, ScoreRequest
from builder.llm.record import record_key, record_keys
from builder.pairs.assignment import Assigned, assign_more, assign_prompts, members_by_group
from builder.pairs.contrast import mirror_ids
from builder.pairs.dpf import build_pairs
from builder.pairs.feedback import write_base_answers
from builder.pairs.partners import Candidate
from builder.prompts.prompts import build_prompts
from builder.recipe import (
    ROLES,
    BuildRecipe,
    ModelRecipe,
    PairsRecipe,
    PromptsRecipe,
    as_dict,
    fingerprint,
    flatten,
    load_recipe,
)
from builder.schema import (
    PAIR_CONFIGS,
    contrast_pair_id,
    dpf_pair_id,
    ids_of_dpf_pair,
    mirror_defects,
    persona_id,
    prompt_id,
)
from tests.builder.small_shard import judges_of, personas, prompts, recipe_of, scripted_calls

Row = dict[str, Any]
numbers = st.integers(0, 99_999) | st.integers(100_000, 10**12)
seeds = st.integers(0, 2**31)
FEW = settings(max_examples=20, deadline=None)


# --- ids


@given(numbers, numbers)
def test_an_id_is_a_letter_and_its_number_and_two_numbers_have_two_ids(one, other):
    for make, letter in ((persona_id, "p"), (prompt_id, "q")):
        assert re.fullmatch(rf"{letter}\d{{5,}}", make(one))
        assert int(make(one)[1:]) == one
        assert (make(one) == make(other)) == (one == other)
        # In the order of (length, text), which the tables of prompts have, ids stand in the order of their numbers.
        assert ((len(make(one)), make(one)) < (len(make(other)), make(other))) == (one < other)


@given(
    st.sampled_from(["dpf", "dpf_matched"]), numbers, numbers, st.sampled_from(["dpf", "dpf_matched"]), numbers, numbers
)
def test_a_pair_id_says_its_persona_and_prompt_and_is_of_nobody_else(
    config, persona, prompt, other_config, someone, other
):
    pair_id = dpf_pair_id(persona_id(persona), prompt_id(prompt), config)
    assert pair_id.split("/")[0] == config
    assert ids_of_dpf_pair(pair_id) == (persona_id(persona), prompt_id(prompt))
    same = (config, persona, prompt) == (other_config, someone, other)
    assert (dpf_pair_id(persona_id(someone), prompt_id(other), other_config) == pair_id) == same


@given(numbers, numbers, numbers, numbers)
def test_a_contrast_pair_and_its_mirror_name_each_other(first, second, prompt, other):
    assume(first != second)
    ids = [dpf_pair_id(persona_id(n), prompt_id(prompt)) for n in (first, second)]
    own, mirror = mirror_ids(Candidate(ids[0], ids[1], None))
    assert (mirror, own) == mirror_ids(Candidate(ids[1], ids[0], None))
    assert own != mirror
    said = re.fullmatch(r"contrast/(p\d{5,})-(p\d{5,})/(q\d{5,})", own)
    assert said is not None
    assert said.groups() == (persona_id(first), persona_id(second), prompt_id(prompt))
    assert (contrast_pair_id(persona_id(first), persona_id(second), prompt_id(other)) == own) == (other == prompt)


questions = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["law", "pets", "food"]), st.booleans()),
    min_size=6,
    max_size=14,
    unique_by=lambda q: q[0],
)


def prompt_rows(lines: list[tuple[int, str, bool]], earlier: list[Row] | None = None, **sizes: Any) -> list[Row]:
    """The prompts of a source with these lines; one that is not usable is no question."""
    texts = [{"question": f"Question number {n} about it?" if good else "none", "topic": t} for n, t, good in lines]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "questions.jsonl"
        path.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        wanted = PromptsRecipe(source=str(path), near_duplicate_similarity=1.0, **sizes)
        recipe = BuildRecipe("t", sizes.pop("seed", 3), prompts=wanted, pairs=PairsRecipe(1, 0, 0))
        return build_prompts(recipe, None, earlier=earlier or ()).rows


@FEW
@given(questions, questions, st.integers(1, 5))
def test_a_prompts_id_is_its_line_whatever_the_recipe_and_whatever_comes_after(lines, more, count):
    assume(sum(good for *_, good in lines) >= 2)
    line_of = {
        f"Question number {n} about it?": prompt_id(place) for place, (n, _, good) in enumerate(lines, 1) if good
    }
    more = [(n + 2 * 10**6, topic, good) for n, topic, good in more]
    for source, wanted in ((lines, len(lines)), (lines, count), ([*lines, *more], 99)):
        made = {row["question"]: row["prompt_id"] for row in prompt_rows(source, count=wanted, heldout=wanted // 3)}
        assert len(set(made.values())) == len(made)
        assert all(made[question] == line_of[question] for question in made.keys() & line_of.keys())


@FEW
@given(questions, questions, st.integers(1, 4))
def test_an_extension_keeps_every_prompt_and_gives_new_ids_to_new_ones(lines, more, added):
    assume(sum(good for *_, good in lines) >= 3 and sum(good for *_, good in more) >= 1)
    # The new source counts its lines from one too, so its numbers are taken.
    more = [(n + 2 * 10**6, topic, good) for n, topic, good in more]
    old = prompt_rows(lines, count=3, heldout=1)
    both = prompt_rows(more, old, count=3 + added, heldout=1 + added // 2)
    assert [row for row in both if row in old] == old
    assert len({row["prompt_id"] for row in both}) == len(both) == len({row["question"] for row in both})
    assert len(both) == min(3 + added, 3 + sum(good for *_, good in more))


# --- splits and shards


@st.composite
def small_builds(draw: st.DrawFn) -> tuple[BuildRecipe, list[Row], list[Row]]:
    """Two to six personas and eight to twelve prompts, groups and pools drawn for each; pools large enough for the recipe."""
    sizes = (draw(st.integers(1, 3)), draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    names = [f"pairs.{part}={n}" for part, n in zip(("train", "seen_test", "heldout_test"), sizes, strict=True)]
    recipe = recipe_of(*names, "prompts.heldout=4", f"seed={draw(st.integers(0, 999))}")
    people = [{**p, "group": draw(st.sampled_from(["seen", "unseen"]))} for p in personas(draw(st.integers(2, 6)))]
    pools = (
        ["train"] * 5 + ["heldout"] * 2 + draw(st.lists(st.sampled_from(["train", "heldout"]), min_size=1, max_size=5))
    )
    asked = [{**p, "pool": pool} for p, pool in zip(prompts(), draw(st.permutations(pools)), strict=False)]
    return recipe, people, asked


def made_rows(recipe: BuildRecipe, people: list[Row], asked: list[Row], shards: list[list[Row]]) -> list[Row]:
    """The rows of dpf, worked on in these shards of personas."""
    with tempfile.TemporaryDirectory() as folder:
        calls = scripted_calls(recipe, Path(folder))
        base = write_base_answers(recipe, calls, {p["prompt_id"]: p["question"] for p in asked})
        rows: list[Row] = []
        for shard in shards:
            assigned = assign_prompts(recipe.seed, recipe.pairs, [p["persona_id"] for p in shard], asked)
            rows += build_pairs(
                recipe, calls, judges_of(recipe), shard, asked, assigned, base, members_by_group(people)
            ).table.to_pylist()
    return rows


@FEW
@given(small_builds())
def test_group_and_pool_decide_the_split(build):
    recipe, people, asked = build
    group = {p["persona_id"]: p["group"] for p in people}
    pool = {p["prompt_id"]: p["pool"] for p in asked}
    rows = made_rows(recipe, people, asked, [people])
    for row in rows:
        where = (group[row["persona_id"]], pool[row["prompt_id"]])
        assert (
            row["split"]
            in {
                ("seen", "train"): ("train", "seen_test"),
                ("unseen", "train"): ("support", "seen_test"),
                ("seen", "heldout"): ("heldout_test",),
                ("unseen", "heldout"): ("heldout_test",),
            }[where]
        )
        assert row["persona_group"] == where[0]
        assert row["pair_id"] == dpf_pair_id(row["persona_id"], row["prompt_id"])
        assert row["wrong_persona_id"] != row["persona_id"]
        assert row["wrong_persona_id"] is None or group[row["wrong_persona_id"]] == where[0]
    assert len({row["pair_id"] for row in rows}) == len(rows)
    sizes = recipe.pairs
    for persona in people:
        counted = Counter(row["split"] for row in rows if row["persona_id"] == persona["persona_id"])
        first = "train" if persona["group"] == "seen" else "support"
        wanted = {first: sizes.train, "seen_test": sizes.seen_test, "heldout_test": sizes.heldout_test}
        assert counted == Counter({split: n for split, n in wanted.items() if n})


@FEW
@given(small_builds(), st.data())
def test_rows_do_not_depend_on_how_many_shards_there_are_nor_on_any_order(build, data):
    """Shards are what workers take, so neither does the number of workers matter."""
    recipe, people, asked = build
    whole = made_rows(recipe, people, asked, [people])
    mixed = data.draw(st.permutations(people))
    cut = data.draw(st.integers(0, len(mixed)))
    shards = [shard for shard in (mixed[:cut], mixed[cut:]) if shard]
    parts = made_rows(recipe, mixed, data.draw(st.permutations(asked)), shards)
    assert sorted(parts, key=lambda row: row["pair_id"]) == sorted(whole, key=lambda row: row["pair_id"])


# --- assignment of an extension

PARTS = ("train", "seen_test", "heldout_test")


@settings(deadline=None)
@given(seeds, st.integers(0, 4), st.tuples(*[st.integers(0, 3)] * 3), st.tuples(*[st.integers(0, 3)] * 3), st.data())
def test_an_extension_asks_nobody_twice_and_everybody_as_often_as_it_says(seed, spare, sizes, added, data):
    before, more = PairsRecipe(*sizes), dict(zip(PARTS, added, strict=True))
    pool_sizes = {"train": sum(sizes[:2]) + sum(added[:2]) + spare % 3, "heldout": sizes[2] + added[2] + spare % 2}
    pools = [pool for pool, size in pool_sizes.items() for _ in range(size)]
    asked = [{"prompt_id": prompt_id(n), "pool": pool} for n, pool in enumerate(pools)]
    people = [persona_id(n) for n in range(4)]
    # What could not be had the first time was not published: such a prompt may be asked again.
    had = [a for a in assign_prompts(seed, before, people, asked) if data.draw(st.integers(0, 9)) > 0]
    made = assign_more(seed, more, people, had, asked)
    together = [*had, *made]
    assert len({(a.persona_id, a.prompt_id) for a in together}) == len(together)
    pool_of = {p["prompt_id"]: p["pool"] for p in asked}
    assert all((a.part == "heldout_test") == (pool_of[a.prompt_id] == "heldout") for a in made)
    wanted = Counter({part: n for part, n in more.items() if n})
    assert all(Counter(a.part for a in made if a.persona_id == name) == wanted for name in people)
    orders = [data.draw(st.permutations(items)) for items in (people, had, asked)]
    assert sorted(assign_more(seed, more, *orders), key=by_ids) == sorted(made, key=by_ids)
    alone = assign_more(seed, more, people[-1:], had, asked)
    assert alone == [a for a in made if a.persona_id == people[-1]]


def by_ids(asked: Assigned) -> tuple[str, str]:
    return asked.persona_id, asked.prompt_id


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 8))
def test_more_personas_leave_the_earlier_ones_their_prompts(seed, train, first, added):
    asked = [{"prompt_id": prompt_id(n), "pool": "train" if n < 8 else "heldout"} for n in range(12)]
    few = assign_prompts(seed, PairsRecipe(train, 1, 2), [persona_id(n) for n in range(first)], asked)
    many = assign_prompts(seed, PairsRecipe(train, 1, 2), [persona_id(n) for n in range(first + added)], asked)
    assert [a for a in many if int(a.persona_id[1:]) < first] == few
    assert all(isinstance(a, Assigned) for a in many)


# --- mirrors


def mirrored(pairs: list[tuple[int, int, int]]) -> list[Row]:
    """Both rows of each (persona, partner, prompt)."""
    rows = []
    for persona, partner, prompt in pairs:
        for own, other in ((persona, partner), (partner, persona)):
            ids = contrast_pair_id(persona_id(own), persona_id(other), prompt_id(prompt))
            mirror = contrast_pair_id(persona_id(other), persona_id(own), prompt_id(prompt))
            texts = {"chosen": f"of {own} to {prompt}", "rejected": f"of {other} to {prompt}"}
            rows.append(
                {
                    "pair_id": ids,
                    "mirror_pair_id": mirror,
                    "persona_group": "seen",
                    "prompt_id": prompt_id(prompt),
                    **texts,
                }
            )
    return rows


pairs_of_personas = st.tuples(st.integers(0, 4), st.integers(5, 9), st.integers(0, 4))


@given(
    st.lists(pairs_of_personas, min_size=1, max_size=8, unique=True),
    st.data(),
    st.sampled_from(["drop", "chosen", "rejected", "exchange", "persona_group", "prompt_id", "mirror_pair_id"]),
)
def test_a_set_of_mirrors_is_complete_or_it_is_told(pairs, data, damage):
    rows = data.draw(st.permutations(mirrored(pairs)))
    assert mirror_defects(rows) == []
    hit = data.draw(st.integers(0, len(rows) - 1))
    row = dict(rows[hit])
    if damage == "exchange":
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    elif damage != "drop":
        row[damage] = "another"
    assert mirror_defects([*rows[:hit], *([] if damage == "drop" else [row]), *rows[hit + 1 :]])


# --- record keys

texts = st.sampled_from(["", "a", "b", "ab", "1", "é", "e\u0301", "\x00", "\ud800", "{}"]) | st.text(max_size=4)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": texts}), max_size=3
).map(tuple)
samplings = st.builds(
    Sampling,
    st.sampled_from([1, 10, 100]),
    st.sampled_from([0.0, 0.1, 1.0, 1e-9]),
    st.sampled_from([0.9, 1.0]),
    st.sampled_from([None, 1, 10]),
)
small = st.sampled_from([0, 1, 10, 11, 101])
chats = st.builds(ChatRequest, messages, samplings, texts, small, small, small)
scored = st.builds(ScoreRequest, messages, texts, texts)
identities = st.fixed_dictionaries({"model": texts, "revision": st.none() | texts})


def copied(request: ChatRequest | ScoreRequest) -> ChatRequest | ScoreRequest:
    """The same request, no object of which is the same, the keys of its messages in another order."""
    again = tuple({key: str(message[key]) for key in reversed(list(message))} for message in request.messages)
    if isinstance(request, ScoreRequest):
        return dataclasses.replace(request, messages=again)
    return dataclasses.replace(request, messages=again, sampling=dataclasses.replace(request.sampling))


@settings(max_examples=300)
@given(chats | scored, chats | scored, identities, identities)
def test_two_requests_share_a_key_only_if_all_that_decides_the_answer_is_equal(one, other, identity, second_identity):
    key = record_key(one, identity)
    assert re.fullmatch(r"[0-9a-f]{32}", key)
    assert record_key(copied(one), dict(reversed(identity.items()))) == key
    assert (record_key(other, second_identity) == key) == ((one, identity) == (other, second_identity))


@given(chats, st.data())
def test_every_field_of_any_request_changes_its_key(request, data):
    identity = {"model": "m", "revision": None}
    others = {
        "messages": messages,
        "sampling": samplings,
        "template": texts,
        "seed": small,
        "sample_index": small,
        "attempt": small,
    }
    assert set(others) == {field.name for field in dataclasses.fields(ChatRequest)}
    name = data.draw(st.sampled_from(sorted(others)))
    changed = dataclasses.replace(request, **{name: data.draw(others[name])})
    assert (record_key(changed, identity) == record_key(request, identity)) == (changed == request)


def test_samples_and_attempts_are_told_apart_whatever_their_digits():
    request = ChatRequest((), Sampling(10), "t", 1)
    numbers = [(sample, attempt) for sample in (0, 1, 10, 11, 110) for attempt in (0, 1, 10, 11, 110)]
    keys = {record_key(dataclasses.replace(request, sample_index=s, attempt=a), {"model": "m"}) for s, a in numbers}
    assert len(keys) == len(numbers)


@given(
    chats,
    st.lists(st.tuples(st.sampled_from(["seed", "sample_index", "attempt"]), small), max_size=6),
    scored,
    identities,
)
def test_a_key_does_not_depend_on_what_else_is_asked(request, changes, score, identity):
    requests = [request, score, *(dataclasses.replace(request, **{name: value}) for name, value in changes)]
    assert record_keys(requests, identity) == [record_key(request, identity) for request in requests]


@given(st.text(min_size=1))
def test_texts_that_look_alike_are_two_texts(text):
    """No normal form of Unicode is taken: a model reads the characters that are there."""
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")} | {text}
    keys = {record_key(ScoreRequest(({"role": "user", "content": form},), "x", "t"), {"model": "m"}) for form in forms}
    assert len(keys) == len(forms)


def written_otherwise(value: Any) -> Any:
    """The same setting as somebody else may write it: a whole number where a real one is meant."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def in_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n")


@FEW
@given(st.sampled_from([0.0, 1.0, 0.5, 2.0]), st.sampled_from([1.0, 0.25]), st.integers(1, 500))
def test_a_setting_decides_by_its_value_and_not_by_how_it_is_written(temperature, top_p, max_tokens):
    drawn = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
    otherwise = {key: written_otherwise(value) for key, value in drawn.items()}
    one, two = (load_recipe("demo", [f"pairs.revision={in_yaml(form)}"]) for form in (drawn, otherwise))
    assert fingerprint(one) == fingerprint(two)
    keys = set()
    with tempfile.TemporaryDirectory() as folder:
        for form in (drawn, otherwise):
            path = Path(folder) / "judge.yaml"
            path.write_text(yaml.safe_dump({"kind": "pairwise", "template": "judge_roleplay", "sampling": form}))
            sampling = load_judge(str(path), ModelRecipe(), 0).sampling
            keys.add(record_key(ChatRequest((), sampling, "t", 1), {"model": "m"}))
    assert len(keys) == 1


WHERE_AND_HOW_FAST = (
    *("path", "base_url", "api_key_env", "max_concurrency", "timeout_seconds", "max_tokens_field"),
    *("cost_per_million_prompt_tokens", "cost_per_million_completion_tokens"),
)


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return (*value, "another") if isinstance(value, tuple) else f"{value}, another"


def with_another(settings_of: Any, names: Sequence[str]) -> Any:
    """The recipe, or a section of it, with another value under the dotted key that `names` are."""
    first, *rest = names
    value = getattr(settings_of, first)
    return dataclasses.replace(settings_of, **{first: with_another(value, rest) if rest else another(value)})


def test_every_key_of_a_recipe_counts_unless_it_says_where_or_how_fast():
    demo = load_recipe("demo")
    keys = flatten(as_dict(demo))
    same = {key for key in keys if fingerprint(with_another(demo, key.split("."))) == fingerprint(demo)}
    # Files are known by their content, models by what they are and not by where they stand.
    files = {"census.source", "census.household_source", "personas.source", "prompts.source"}
    assert same == files | {f"models.{role}.{name}" for role in ROLES for name in WHERE_AND_HOW_FAST}


def test_the_configs_of_pairs_are_those_whose_ids_are_tested_above():
    assert PAIR_CONFIGS == ("dpf", "dpf_matched", "contrast")
