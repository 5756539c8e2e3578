"""Contrast pairs: partners by distance, judging from both sides, the published rows."""

import dataclasses
from collections import Counter
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as arrow
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.judge.judge import Verdict
from builder.judge.judge_file import load_judge
from builder.llm.messages import Answer, TokenScores
from builder.llm.scripted import ScriptedClient
from builder.pairs.assignment import members_by_group, wrong_persona
from builder.pairs.contrast import chose_revisions, judge_candidates, judged_table, said_by
from builder.pairs.contrast_rows import DPF_COLUMNS, contrast_tables
from builder.pairs.judgements import judgement_rows
from builder.pairs.partners import BANDS, Candidate, choose_partners, code_profiles, draw, rows_without_partner
from builder.personas.profile import profile_lines, profile_text
from builder.randomness import rng_for
from builder.recipe import BuildRecipe, ContrastRecipe, ModelRecipe, ModelsRecipe, PairsRecipe
from builder.schema import (
    BIG_FIVE,
    assistant_message,
    dpf_pair_id,
    empty_attributes,
    features,
    mirror_defects,
    preference_messages,
)

RECIPE = BuildRecipe("test", 5)
LIKELIHOOD = load_judge("likelihood", ModelRecipe(provider="scripted", model="one"), 1)
ROLEPLAY = load_judge("roleplay", ModelRecipe(provider="scripted", model="two"), 1, "second_judge")
SPREAD = ContrastRecipe(1, "spread")


def person(number, group="seen", **values):
    filled = empty_attributes() | values
    return {
        "persona_id": f"p{number:05d}",
        "group": group,
        "is_adult": True,
        "profile": profile_text(profile_lines(filled)),
        **filled,
    }


def people(count, group="seen"):
    """Neighbours in number are alike: number n has the first n attributes of the list in another form."""
    names = ["sex", "race", "religion", "education", "ancestry", "lifestyle", "mannerisms", "citizenship", "ideology"]
    return [person(n, group, **{name: f"{name} {n > place}" for place, name in enumerate(names)}) for n in range(count)]


def dpf_rows(personas, prompts=("q00001", "q00002"), text="answer of {}"):
    """One row per persona and prompt; the second prompt of each is for the test."""
    return [
        {
            "split": "train" if place == 0 else "seen_test",
            "pair_id": dpf_pair_id(p["persona_id"], q),
            "persona_id": p["persona_id"],
            "prompt_id": q,
            "chosen": assistant_message(f"{text.format(p['persona_id'])} to {q}"),
            "topic": f"topic of {q}",
            "persona_group": p["group"],
            "is_adult": True,
            "prompt_tokens": 10,
            "chosen_tokens": 3 + place,
            "inferable_attributes": ["sex"] if p["persona_id"] == "p00001" else [],
        }
        for p in personas
        for place, q in enumerate(prompts)
    ]


def as_table(rows):
    return arrow.table({name: [row[name] for row in rows] for name in DPF_COLUMNS})


QUESTIONS = [{"prompt_id": f"q{n:05d}", "question": f"Question {n}?", "topic": f"topic {n % 2}"} for n in range(60)]


class Calls:
    """ModelCalls without a record: `reply` answers chat requests; token scores are the scripted client's. Counts requests by role."""

    def __init__(self, reply=None):
        self.client = ScriptedClient("x", reply)
        self.asked = Counter()

    def generate(self, role, requests, label):
        return self.run(self.client.generate, role, requests, list(map(str, range(len(requests)))))

    def score(self, role, requests, label):
        return self.run(self.client.score, role, requests)

    def run(self, work, role, requests, *keys):
        self.asked[role] += len(requests)
        replies = {}
        work(requests, *keys, set(range(len(requests))), replies.update)
        assert all(isinstance(reply, Answer | TokenScores) for reply in replies.values())
        return [replies[i] for i in range(len(requests))]


def judge(rows, candidates, personas, judges=(LIKELIHOOD,), recipe=RECIPE, calls=None):
    return judge_candidates(
        recipe,
        calls or Calls(),
        judges,
        candidates,
        {row["pair_id"]: row["chosen"][0]["content"] for row in rows},
        {p["persona_id"]: p["profile"] for p in personas},
        {q["prompt_id"]: q["question"] for q in QUESTIONS},
    )


def published(rows, table, personas, seed=5, rows_at_a_time=7):
    tables = contrast_tables(seed, table, as_table(rows), personas, QUESTIONS, rows_at_a_time)
    return arrow.concat_tables(tables) if table.num_rows else None


# --- partners


def test_distance_is_the_share_of_stated_attributes_that_differ():
    traits = dict.fromkeys(BIG_FIVE, "Average")
    personas = [
        person(0, age=26, income=40_000, sex="Male", big_five_scores=traits),
        person(1, age=33, income=49_000, sex="Male", big_five_scores=traits),  # the same bands
        person(2, age=35, income=40_000, sex="Male", big_five_scores=traits | {"openness": "High"}),
        person(3, age=26, income=40_000, sex=None, religion="Hindu", big_five_scores=traits),
    ]
    profiles = code_profiles(personas)
    assert [round(d, 6) for d in profiles.distances(0, np.arange(4))] == [0, 0, round(1.2 / 5, 6), round(2 / 5, 6)]


def test_what_a_profile_leaves_out_is_no_difference():
    personas = [person(0, sex="Male", religion="Hindu"), person(1, sex="Male", religion="Sikh")]
    for row in personas:
        row["profile"] = profile_text(profile_lines(row | {"religion": None}))
    assert code_profiles(personas).distances(0, np.array([1])) == [0]
    # Profiles in free words have no lines to look up.
    told = [row | {"profile": "Somebody who lives somewhere."} for row in personas]
    assert code_profiles(told).distances(0, np.array([1])) == [0.5]


def test_numbers_have_the_bands_of_the_population_page():
    declared = yaml.safe_load((Path("builder") / "fidelity" / "bins.yaml").read_text(encoding="utf-8"))
    for name, edges in BANDS.items():
        assert edges == tuple(entry["from"] for entry in declared[name]["bins"])[1:]


def test_a_profile_that_states_nothing_is_at_no_known_distance():
    """Decided for each persona: one in free words without attributes beside others with lines."""
    free = [person(n) | {"profile": f"Somebody by the name of {n}."} for n in range(5)]
    told = [row | {"persona_id": f"p{n + 10:05d}"} for n, row in enumerate(people(4))]
    profiles = code_profiles([*free, *told])
    assert np.isnan(profiles.distances(0, np.arange(9))).all()
    known = profiles.distances(6, np.arange(9))
    assert np.isnan(known[:5]).all()
    assert known[6] == 0 < known[8]

    for personas, wanted in ((free, {None}), ([*free, *told], {None, *known[5:].tolist()})):
        rows = dpf_rows(personas)
        chosen = choose_partners(5, ContrastRecipe(3, "spread"), as_table(rows), personas)
        assert {c.distance for c in chosen} >= {None}
        assert all((c.distance is None) == (min(c[:2]) < "dpf/p00010") for c in chosen)
        assert len(wanted) > 1 or {c.distance for c in chosen} == wanted
        table = published(rows, judge(rows, chosen, personas).table, personas)
        assert table["partner_distance"].null_count == 2 * sum(c.distance is None for c in chosen)


def test_partners_at_no_known_distance_are_drawn_at_random_and_are_neither_near_nor_far():
    nothing = np.full(9, np.nan)
    counts = Counter(drawn("spread", 1, seed, nothing)[0] for seed in range(1800))
    assert all(abs(counts[place] - 200) < 55 for place in range(9))
    half = np.where(np.arange(9) < 6, DISTANCES, np.nan)
    for rule, band in (("near", {0, 1}), ("far", {4, 5})):
        assert set(Counter(drawn(rule, 1, seed, half)[0] for seed in range(100))) == band
        assert all(set(drawn(rule, 6, seed, half)) == set(range(6)) for seed in range(20))
    counts = Counter(drawn("spread", 1, seed, half)[0] for seed in range(900))
    assert min(counts[place] for place in range(9)) > 50


def test_rows_that_are_alone_in_their_cell_are_counted():
    personas = [*people(3), person(9, "unseen")]
    rows = as_table(dpf_rows(personas))
    chosen = choose_partners(5, SPREAD, rows, personas)
    assert rows_without_partner(rows, chosen) == 2
    assert rows_without_partner(rows, []) == 8


def test_a_second_judge_on_the_model_that_chose_is_a_selector_too():
    def selectors(*judges, candidates=4, **models):
        recipe = dataclasses.replace(RECIPE, pairs=PairsRecipe(candidates=candidates), models=ModelsRecipe(**models))
        return [chose_revisions(recipe, judges, j) for j in judges]

    first = load_judge("roleplay", ModelRecipe(provider="scripted", model="one"), 1)
    again = dataclasses.replace(first, role="second_judge", version="another")
    assert selectors(first, again) == [True, True]
    assert selectors(first, again, candidates=1) == [False, False]
    assert selectors(first, dataclasses.replace(again, model="two")) == [True, False]
    assert selectors(
        first, load_judge("likelihood", ModelRecipe(provider="scripted", model="one"), 1, "second_judge")
    ) == [True, False]
    assert selectors(first, again, second_judge=ModelRecipe(provider="scripted", revision="abc")) == [True, False]


DISTANCES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


def drawn(rule, partners, seed=0, distances=DISTANCES):
    return draw(rng_for(seed, "test", "row"), ContrastRecipe(partners, rule), distances)


@pytest.mark.parametrize(("rule", "band"), [("near", {0, 1, 2}), ("far", {6, 7, 8})])
def test_near_and_far_partners_come_from_the_end_of_the_ranking(rule, band):
    singles = Counter(drawn(rule, 1, seed)[0] for seed in range(300))
    assert set(singles) == band
    assert min(singles.values()) > 60
    assert all(set(drawn(rule, 3, seed)) == band for seed in range(20))
    assert all({3, 4, 5} >= set(drawn(rule, 5, seed)) - band for seed in range(20))


def test_spread_takes_every_band_in_turn_and_all_equally_often():
    starts = Counter(drawn("spread", 1, seed)[0] // 3 for seed in range(900))
    # 300 each, standard deviation 14.
    assert all(abs(starts[band] - 300) < 60 for band in range(3))
    # Also where they are of unequal size: one near, two middling, one far.
    starts = Counter(drawn("spread", 1, seed, DISTANCES[:4])[0] for seed in range(900))
    assert all(abs(number - 300) < 60 for number in (starts[0], starts[1] + starts[2], starts[3]))
    assert all({place // 3 for place in drawn("spread", 3, seed)} == {0, 1, 2} for seed in range(50))
    assert all(Counter(place // 3 for place in drawn("spread", 6, seed)) == {0: 2, 1: 2, 2: 2} for seed in range(50))


def test_any_takes_all_alike():
    counts = Counter(drawn("any", 1, seed)[0] for seed in range(1800))
    # 200 each, standard deviation 13.
    assert all(abs(counts[place] - 200) < 55 for place in range(9))


def test_equal_distances_are_ranked_at_random():
    counts = Counter(drawn("near", 1, seed, np.full(9, 0.5))[0] for seed in range(1800))
    assert all(abs(counts[place] - 200) < 55 for place in range(9))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(1, 4),
    st.integers(2, 9),
    st.sampled_from(["spread", "near", "far", "any"]),
    st.randoms(use_true_random=False),
)
def test_every_row_gets_its_partners_within_its_cell_whatever_the_order(seed, partners, count, rule, random):
    personas = [*people(count), person(50, "unseen"), person(51, "unseen")]
    rows = dpf_rows(personas)
    recipe = ContrastRecipe(partners, rule)
    chosen = choose_partners(seed, recipe, as_table(rows), personas)
    cell = {r["pair_id"]: (r["prompt_id"], r["split"], r["persona_group"]) for r in rows}
    assert all(cell[c.first_pair_id] == cell[c.second_pair_id] for c in chosen)
    assert all(c.first_pair_id < c.second_pair_id for c in chosen)
    assert chosen == sorted(set(chosen))
    degree = Counter(pair_id for c in chosen for pair_id in c[:2])
    in_cell = Counter(cell.values())
    assert all(degree[i] >= min(partners, in_cell[cell[i]] - 1) for i in cell)
    assert len(chosen) <= partners * len(rows)
    random.shuffle(rows)
    random.shuffle(personas)
    assert choose_partners(seed, recipe, as_table(rows), personas) == chosen
    # Another cell changes nothing in this one.
    alone = [r for r in rows if r["persona_group"] == "seen" and r["split"] == "train"]
    assert choose_partners(seed, recipe, as_table(alone), personas) == [
        c for c in chosen if cell[c[0]] == cell[alone[0]["pair_id"]]
    ]


def test_another_seed_draws_other_partners():
    personas = people(9)
    first, second = (choose_partners(seed, SPREAD, as_table(dpf_rows(personas)), personas) for seed in (1, 2))
    assert first != second


def test_the_draw_of_partners_is_that_of_the_seed_the_stage_and_the_row():
    """Built again with the same seed, a later version sets the same rows against each other."""
    personas = people(7)
    rows = dpf_rows(personas, ("q00001",))
    expected = set()
    for row in rows:
        others = [other["pair_id"] for other in rows if other is not row]
        _, order = rng_for(5, "contrast_partner", row["pair_id"]).random((2, 6))
        expected |= {tuple(sorted((row["pair_id"], others[place]))) for place in np.argsort(order)[:2]}
    chosen = choose_partners(5, ContrastRecipe(2, "any"), as_table(rows), personas)
    assert {candidate[:2] for candidate in chosen} == expected


# --- judging


def says(**verdict_by_word):
    """A role-play judge that prefers the text with the word of the profile's persona."""

    def reply(request):
        asked = request.messages[-1]["content"]
        profile = asked.split("<profile>")[1].split("</profile>")[0]
        first = asked.split("<answer_a>")[1].split("</answer_a>")[0]
        liked = next(word for name, word in verdict_by_word.items() if f": {name}" in profile)
        return f"REASON: r\nVERDICT: {'tie' if liked == 'tie' else 'A' if liked in first else 'B'}"

    return reply


def two_people(first_text="red", second_text="blue"):
    personas = [person(0, religion="Hindu"), person(1, religion="Sikh")]
    rows = dpf_rows(personas, ("q00001",))
    for row, text in zip(rows, (first_text, second_text), strict=True):
        row["chosen"] = assistant_message(text)
    return personas, rows, [Candidate(rows[0]["pair_id"], rows[1]["pair_id"], 1.0)]


@pytest.mark.parametrize(
    ("hindu", "sikh", "flip", "verdicts"),
    [
        ("red", "blue", True, ("chosen", "chosen")),
        ("red", "red", False, ("chosen", "rejected")),
        ("blue", "blue", False, ("rejected", "chosen")),
        ("blue", "red", False, ("rejected", "rejected")),
        ("red", "tie", False, ("chosen", "tie")),
    ],
)
def test_a_preference_flips_where_each_persona_gets_its_own_text(hindu, sikh, flip, verdicts):
    personas, rows, candidates = two_people()
    calls = Calls(says(Hindu=hindu, Sikh=sikh))
    shard = judge(rows, candidates, personas, [ROLEPLAY], calls=calls)
    (judged,) = shard.table.to_pylist()
    (said,) = judged["judged"]
    assert (said["flip"], said["first_verdict"], said["second_verdict"]) == (flip, *verdicts)
    assert calls.asked == {"second_judge": 4}  # two personas, two orders
    own, mirror = published(rows, shard.table, personas).to_pylist()
    assert [r["judge_verdict"] for r in (own, mirror)] == list(verdicts)
    assert own["flips"][0]["flip"] is mirror["flips"][0]["flip"] is flip


def test_every_call_of_a_judge_stands_in_the_judgements_under_its_row():
    personas, rows, candidates = two_people()
    shard = judge(rows, candidates, personas, [LIKELIHOOD, ROLEPLAY], calls=Calls(says(Hindu="red", Sikh="red")))
    own, mirror = "contrast/p00000-p00001/q00001", "contrast/p00001-p00000/q00001"
    calls = [(r["judge"].split("@")[0], r["pair_id"], r["order"], r["verdict"]) for r in shard.judgements]
    assert calls[:2] == [("likelihood", own, "both", "tie"), ("likelihood", mirror, "both", "tie")]
    assert calls[2:] == [
        ("roleplay", own, "AB", "chosen"),
        ("roleplay", own, "BA", "chosen"),
        ("roleplay", mirror, "AB", "rejected"),
        ("roleplay", mirror, "BA", "rejected"),
    ]
    assert {r["condition"] for r in shard.judgements} == {"true"}
    assert set(shard.judgements[0]) == set(features("judgements"))


def test_a_verdict_without_a_call_is_one_judgement_with_its_reason():
    assert judgement_rows(LIKELIHOOD, "contrast/x", Verdict("unscored", None, "an answer has no tokens"), "wrong") == [
        {
            "pair_id": "contrast/x",
            "judge": LIKELIHOOD.label,
            "condition": "wrong",
            "order": "both",
            "verdict": "unscored",
            "probability": None,
            "reason": "an answer has no tokens",
        }
    ]


def test_a_judge_by_likelihood_scores_each_text_without_persona_once():
    personas, rows, candidates = two_people()
    calls = Calls()
    judge(rows, candidates, personas, calls=calls)
    assert calls.asked == {"judge": 6}  # two texts under two personas and none


def test_an_unreadable_judge_leaves_the_pair_in_and_unscored():
    personas, rows, candidates = two_people()
    shard = judge(rows, candidates, personas, [ROLEPLAY], calls=Calls(lambda request: "Hard to say."))
    (own, _) = published(rows, shard.table, personas).to_pylist()
    assert (own["judge_verdict"], own["judge_score"]) == ("unscored", None)
    assert own["flips"] == [{"judge": ROLEPLAY.label, "flip": None, "margin": None, "is_selector": False}]
    assert {r["reason"] for r in shard.judgements} == {"unreadable"}


def test_identical_texts_go_to_the_ledger_and_cost_nothing():
    personas, rows, candidates = two_people("same", "same")
    calls = Calls()
    shard = judge(rows, candidates, personas, calls=calls)
    assert shard.counts == {"in": 2, "out": 0, "dropped": {"identical_texts": 2}}
    assert shard.ledger == [
        {"stage": "contrast", "item": "contrast/p00000-p00001/q00001", "reason": "identical_texts", "detail": ""}
    ]
    assert shard.table.num_rows == 0
    assert calls.asked == {}
    assert list(contrast_tables(1, shard.table, as_table(rows), personas, QUESTIONS)) == []


@pytest.mark.parametrize("candidates_drawn", [1, 2])
def test_only_a_first_judge_that_chose_among_revisions_is_a_selector(candidates_drawn):
    personas, rows, candidates = two_people()
    recipe = dataclasses.replace(RECIPE, pairs=PairsRecipe(candidates=candidates_drawn))
    shard = judge(rows, candidates, personas, [LIKELIHOOD, ROLEPLAY], recipe, Calls(says(Hindu="red", Sikh="blue")))
    for row in published(rows, shard.table, personas).to_pylist():
        assert [(f["judge"], f["is_selector"]) for f in row["flips"]] == [
            (LIKELIHOOD.label, candidates_drawn > 1),
            (ROLEPLAY.label, False),
        ]
        assert row["judge"] == LIKELIHOOD.label


# --- published rows


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(2, 8), st.randoms(use_true_random=False))
def test_mirrors_are_complete_and_exact_and_a_blind_scorer_gets_half(seed, partners, count, random):
    personas = people(count) + [person(50 + n, "unseen", sex=f"{n}") for n in range(3)]
    rows = dpf_rows(personas)
    candidates = choose_partners(seed, ContrastRecipe(partners), as_table(rows), personas)
    shard = judge(
        rows, candidates, personas, [LIKELIHOOD, ROLEPLAY], calls=Calls(lambda request: "REASON: r\nVERDICT: A")
    )
    made = published(rows, shard.table, personas, seed).to_pylist()
    assert len(made) == 2 * len(candidates) == shard.counts["out"] == shard.counts["in"]
    assert len({r["pair_id"] for r in made}) == len(made)
    by_id, row_of = {r["pair_id"]: r for r in made}, {r["pair_id"]: r for r in rows}
    group = {p["persona_id"]: p["group"] for p in personas}
    for split in ("train", "seen_test"):
        assert mirror_defects([r for r in made if r["split"] == split]) == []
    assert Counter((r["prompt_id"], str(r["chosen"])) for r in made) == Counter(
        (r["prompt_id"], str(r["rejected"])) for r in made
    )
    for row in made:
        own, other = (row_of[dpf_pair_id(row[k], row["prompt_id"])] for k in ("persona_id", "partner_persona_id"))
        assert own["persona_id"] != other["persona_id"]
        assert (row["chosen"], row["rejected"]) == (own["chosen"], other["chosen"])
        assert row["prompt"] == preference_messages(
            next(p["profile"] for p in personas if p["persona_id"] == row["persona_id"]),
            f"Question {int(row['prompt_id'][1:])}?",
        )
        assert {k: row[k] for k in ("split", "topic", "persona_group", "inferable_attributes", "chosen_tokens")} == {
            k: own[k] for k in ("split", "topic", "persona_group", "inferable_attributes", "chosen_tokens")
        }
        assert (other["split"], other["persona_group"]) == (own["split"], own["persona_group"])
        involved = (own["persona_id"], other["persona_id"])
        assert row["wrong_persona_id"] not in involved
        others = members_by_group(personas)[row["persona_group"]]
        assert row["wrong_persona_id"] == wrong_persona(seed, row["pair_id"], involved, others)
        assert row["wrong_persona_id"] is None or group[row["wrong_persona_id"]] == row["persona_group"]
        mirror = by_id[row["mirror_pair_id"]]
        assert row["partner_distance"] == mirror["partner_distance"]
        assert [f["flip"] for f in row["flips"]] == [f["flip"] for f in mirror["flips"]]
    for blind in (len, lambda text: crc32(text.encode()), lambda text: 0):
        points = [np.sign(blind(r["chosen"][0]["content"]) - blind(r["rejected"][0]["content"])) for r in made]
        assert sum(points) == 0
    # Neither the order of rows and shards nor the size of the tables matters.
    random.shuffle(rows)
    order = list(range(shard.table.num_rows))
    random.shuffle(order)
    again = published(rows, shard.table.take(order), personas, seed, rows_at_a_time=1)
    assert again.to_pylist() == made
    assert made == sorted(made, key=lambda r: (r["persona_id"], r["prompt_id"], r["partner_persona_id"]))


def test_the_tables_have_the_published_columns_and_whole_personas():
    personas = people(6)
    rows = dpf_rows(personas)
    candidates = choose_partners(1, ContrastRecipe(3), as_table(rows), personas)
    shard = judge(rows, candidates, personas)
    tables = list(contrast_tables(1, shard.table, as_table(rows), personas, QUESTIONS, 5))
    wanted = features("contrast").arrow_schema
    for table in tables:
        assert table.schema.names == ["split", *wanted.names]
        assert table.schema.remove(0).equals(wanted)
        table.validate(full=True)
    owners = [set(table["persona_id"].to_pylist()) for table in tables]
    assert len(tables) > 2
    assert sum(map(len, owners)) == len(set.union(*owners)) == 6


def test_scores_and_margins_are_those_of_the_rows_own_persona():
    personas, rows, candidates = two_people()
    verdicts = Verdict("A", 0.25), Verdict("B", -0.5)
    table = judged_table([candidates[0]._asdict() | {"judged": [said_by(LIKELIHOOD, *verdicts, False)]}])
    made = published(rows, table, personas).to_pylist()
    assert [(r["persona_id"], r["judge_score"], r["flips"][0]["margin"]) for r in made] == [
        ("p00000", 0.25, 0.25),
        ("p00001", -0.5, -0.5),
    ]


@pytest.mark.parametrize(
    ("own", "other", "leaks"),
    [
        ("As a Hindu I would wait.", "Wait.", [True, False]),
        ("As a Hindu I would wait.", "A Hindu would not.", [False, False]),
        ("Wait.", "As a Sikh and no Hindu I would wait.", [False, True]),
        ("A Sikh would wait.", "Go.", [False, False]),
    ],
)
def test_a_leak_is_an_attribute_that_the_partners_text_does_not_name(own, other, leaks):
    personas, rows, candidates = two_people(own, other)
    made = published(rows, judge(rows, candidates, personas).table, personas).to_pylist()
    assert [r["attribute_leak"] for r in made] == leaks


def test_the_longer_text_is_marked():
    personas, rows, candidates = two_people()
    rows[0]["chosen_tokens"], rows[1]["chosen_tokens"] = 5, 4
    made = published(rows, judge(rows, candidates, personas).table, personas).to_pylist()
    assert [(r["chosen_tokens"], r["rejected_tokens"], r["length_violation"]) for r in made] == [
        (5, 4, True),
        (4, 5, False),
    ]
