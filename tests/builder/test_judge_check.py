"""The judge check: a stratified sample of unselected revisions, every judge, both orders, ties and intervals."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.llm.messages import Failure
from builder.llm.scripted import ScriptedClient, scripted_reply
from builder.pairs.assignment import Assigned, assign_prompts
from builder.pairs.judge_check import choose_check, summarise_check
from builder.randomness import seed_for
from builder.schema import dpf_pair_id, split_for
from builder.statistics import clustered_interval
from tests.builder.small_shard import always, make, personas, prompts, recipe_of, scripted_calls

PARTS = ("train", "seen_test", "heldout_test")


@st.composite
def assignments(draw):
    cells = st.tuples(st.integers(0, 5), st.integers(0, 8))
    return [
        Assigned(f"p{persona}", f"q{prompt}", PARTS[prompt % 3])
        for persona, prompt in draw(st.sets(cells, min_size=1, max_size=40))
    ]


TOPIC_OF = {f"q{i}": f"topic {i % 2}" for i in range(9)}
GROUP_OF = {f"p{i}": ("seen", "unseen")[i % 2] for i in range(6)}


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 50), assignments(), st.randoms(use_true_random=False))
def test_every_stratum_gets_its_proportional_number(seed, size, assigned, order):
    chosen = choose_check(seed, size, assigned, TOPIC_OF, GROUP_OF)
    assert len(chosen) == min(size, len(assigned))
    strata = {
        dpf_pair_id(a.persona_id, a.prompt_id): (split_for(a.part, GROUP_OF[a.persona_id]), TOPIC_OF[a.prompt_id])
        for a in assigned
    }
    assert chosen <= set(strata)
    before, after = Counter(strata.values()), Counter(strata[pair] for pair in chosen)
    for stratum, number in before.items():
        assert abs(after[stratum] - len(chosen) * number / len(assigned)) < 1
    shuffled = assigned.copy()
    order.shuffle(shuffled)
    assert choose_check(seed, size, shuffled, TOPIC_OF, GROUP_OF) == chosen


def test_the_same_pairs_are_checked_in_another_config():
    assigned = [Assigned("p1", f"q{i}", "train") for i in range(9)]
    dpf, matched = (choose_check(3, 4, assigned, TOPIC_OF, GROUP_OF, config) for config in ("dpf", "dpf_matched"))
    assert {pair.replace("dpf/", "dpf_matched/") for pair in dpf} == matched
    assert dpf != choose_check(4, 4, assigned, TOPIC_OF, GROUP_OF)


def test_the_sample_is_that_of_the_seed_and_the_pairs_whatever_else_is_assigned():
    """Built again with the same seed, a later version asks about the same pairs."""
    one_stratum = [Assigned("p1", f"q{i}", "train") for i in range(0, 9, 2)]
    drawn = sorted(one_stratum, key=lambda a: seed_for(3, "judge_check", f"p1/{a.prompt_id}"))
    expected = {dpf_pair_id("p1", a.prompt_id) for a in drawn[:2]}
    assert choose_check(3, 2, one_stratum, TOPIC_OF, GROUP_OF) == expected
    assert choose_check(3, 0, one_stratum, TOPIC_OF, GROUP_OF) == frozenset()
    # Of equally large strata the seed says which gets the odd one.
    equal = [Assigned("p1", f"q{i}", "train") for i in (0, 1)]
    for seed in range(9):
        first = min((0, 1), key=lambda i: seed_for(seed, "judge_check_stratum", f"train/topic {i}"))
        assert choose_check(seed, 1, equal, TOPIC_OF, {"p1": "seen"}) == {dpf_pair_id("p1", f"q{first}")}
    # A prompt without a topic is in a stratum of its own.
    assert len(choose_check(3, 5, one_stratum, {**TOPIC_OF, "q4": None}, GROUP_OF)) == 5


def some_pairs(number=30):
    """Ids of pairs that the small shard has."""
    recipe = recipe_of()
    people = personas()
    assigned = assign_prompts(recipe.seed, recipe.pairs, [p["persona_id"] for p in people], prompts())
    topic_of = {p["prompt_id"]: p["topic"] for p in prompts()}
    return choose_check(recipe.seed, number, assigned, topic_of, {p["persona_id"]: p["group"] for p in people})


def counting(counts, role, reply):
    def answer(request):
        counts[role] += 1
        return reply(request)

    return answer


def test_with_one_candidate_the_pairs_own_verdict_is_the_check_and_nothing_is_asked_twice(tmp_path):
    recipe, checked, counts = recipe_of(), some_pairs(), Counter()
    replies = {role: counting(counts, role, scripted_reply) for role in ("judge", "second_judge")}
    table = make(recipe, scripted_calls(recipe, tmp_path, replies), checked=checked)
    assert counts == {"judge": 2 * table.table.num_rows, "second_judge": 2 * len(checked)}
    verdicts = {row["pair_id"]: row["judge_verdict"] for row in table.table.to_pylist()}
    first = [row for row in table.check if row["judge"].endswith(recipe.models.judge.model)]
    assert {row["pair_id"]: row["verdict"] for row in first} == {pair: verdicts[pair] for pair in checked}
    assert len(table.check) == 2 * len(checked)
    # Both judges' calls on published texts are published, each once.
    calls = Counter((row["pair_id"], row["judge"], row["order"]) for row in table.judgements)
    assert set(calls.values()) == {1}
    assert len(calls) == 2 * table.table.num_rows + 2 * len(checked)


def first_is_worst(request):
    """Candidate 0 is a poor one; the judge below likes every other."""
    return f"REVISED PREFERENCE: {'poor' if request.sample_index == 0 else 'splendid'} thing\nDONE"


def likes_splendid(request):
    """The base answer is better than the poor candidate and worse than the splendid ones."""
    asked = request.messages[-1]["content"]
    worth = [
        2 if "splendid thing" in text else 0 if "poor thing" in text else 1
        for text in (asked.split(f"<answer_{x}>")[1].split(f"</answer_{x}>")[0] for x in "ab")
    ]
    return f"REASON: it is\nVERDICT: {'A' if worth[0] > worth[1] else 'B' if worth[0] < worth[1] else 'tie'}"


def test_the_check_is_about_the_first_candidate_and_not_about_the_one_that_the_judge_chose(tmp_path):
    recipe, checked = recipe_of("pairs.candidates=3"), some_pairs()
    replies = {"reviser": first_is_worst, "judge": likes_splendid, "second_judge": likes_splendid}
    table = make(recipe, scripted_calls(recipe, tmp_path, replies), checked=checked)
    assert {row["chosen"][0]["content"] for row in table.table.to_pylist()} == {"splendid thing"}
    assert {row["judge_verdict"] for row in table.table.to_pylist()} == {"chosen"}
    assert {row["verdict"] for row in table.check} == {"rejected"}
    entries = summarise_check(table.check, recipe.seed)["judges"]
    assert [(e["n"], e["preferred"], e["rate"]) for e in entries] == [(30, 0, 0.0)] * 2
    # What was said of a text that no row holds is no judgement on a pair.
    assert {row["verdict"] for row in table.judgements} == {"chosen"}


def test_a_first_candidate_that_could_not_be_had_is_left_out(tmp_path):
    def unreadable_first(request):
        return "no form" if request.sample_index == 0 else first_is_worst(request)

    recipe, checked = recipe_of("pairs.candidates=2"), some_pairs()
    table = make(recipe, scripted_calls(recipe, tmp_path, {"reviser": unreadable_first}), checked=checked)
    assert table.table.num_rows == table.counts["in"]
    assert table.check == []


def test_a_judge_that_always_takes_the_first_place_has_given_ties(tmp_path):
    recipe, checked = recipe_of(), some_pairs()
    replies = {"judge": always("A"), "second_judge": always("a riddle")}
    table = make(recipe, scripted_calls(recipe, tmp_path, replies), checked=checked)
    tied, unread = sorted(summarise_check(table.check, 1)["judges"], key=lambda e: e["unscored"])
    assert (tied["n"], tied["ties"], tied["preferred"], tied["unscored"]) == (30, 30, 0, 0)
    assert (tied["rate"], tied["rate_ties_half"]) == (0.0, 0.5)
    assert (unread["n"], unread["unscored"], unread["rate"], unread["rate_interval"]) == (0, 30, None, None)


def test_only_checked_pairs_are_judged_where_the_recipe_says_so(tmp_path):
    recipe, checked, counts = recipe_of("pairs.judged=check"), some_pairs(10), Counter()
    replies = {"judge": counting(counts, "judge", scripted_reply)}
    table = make(recipe, scripted_calls(recipe, tmp_path, replies), checked=checked)
    judged = {row["pair_id"] for row in table.table.to_pylist() if row["judge_verdict"] is not None}
    assert judged == {row["pair_id"] for row in table.table.to_pylist() if row["judge_score"] is not None} == checked
    assert counts["judge"] == 2 * len(checked)
    assert {row["pair_id"] for row in table.judgements} == checked


def test_a_choice_among_candidates_is_still_the_judges(tmp_path):
    recipe = recipe_of("pairs.judged=check", "pairs.candidates=2")
    table = make(recipe, scripted_calls(recipe, tmp_path, {"reviser": first_is_worst, "judge": likes_splendid}))
    assert {row["chosen"][0]["content"] for row in table.table.to_pylist()} == {"splendid thing"}
    assert {row["judge_verdict"] for row in table.table.to_pylist()} == {None}
    assert table.judgements == table.check == []


def outcome(persona, verdict, split="train", judge="j@1:m", model="m", reviser="writer", prompt="q0"):
    return {
        "pair_id": "x",
        "persona_id": persona,
        "prompt_id": prompt,
        "split": split,
        "reviser": reviser,
        "judge": judge,
        "judge_model": model,
        "verdict": verdict,
        "may_pass": False,
    }


def test_the_summary_counts_ties_and_sets_the_papers_figure_beside():
    rows = [outcome(f"p{i % 20}", "chosen", prompt=f"q{i}") for i in range(90)]
    rows += [outcome(f"p{i}", "tie", "seen_test", prompt=f"q{i}") for i in range(6)]
    rows += [outcome("p3", "rejected", prompt=f"q{i}") for i in range(4)]
    rows += [outcome("p1", "unscored")] * 3
    summary = summarise_check(rows, 1)
    (entry,) = summary["judges"]
    assert summary["paper_rate"] == 0.96
    assert (entry["judge"], entry["judge_model"], entry["reviser"]) == ("j@1:m", "m", "writer")
    assert {k: entry[k] for k in ("n", "preferred", "ties", "against", "unscored")} == {
        "n": 100,
        "preferred": 90,
        "ties": 6,
        "against": 4,
        "unscored": 3,
    }
    assert entry["rate"] == 0.90
    assert entry["rate_ties_half"] == 0.93
    low, high = entry["rate_interval"]
    assert 0.7 < low < 0.90 < high <= 1
    assert entry["rate_ties_half_interval"][0] > low
    assert set(entry["splits"]) == {"train", "seen_test"}
    # Six are too few to say anything.
    few = entry["splits"]["seen_test"]
    assert (few["n"], few["ties"], few["rate"], few["rate_interval"]) == (6, 6, None, None)
    assert summarise_check(rows[::-1], 1) == summary


def test_the_draws_of_an_interval_are_those_of_the_seed_the_judge_and_the_split():
    rows = [outcome(f"p{i % 20}", "chosen" if i % 3 else "rejected", prompt=f"q{i}") for i in range(60)]
    (entry,) = summarise_check(rows, 7)["judges"]
    values, clusters = [float(i % 3 > 0) for i in range(60)], [(f"p{i % 20}", f"q{i}") for i in range(60)]
    for said, key in ((entry, "j@1:m/writer"), (entry["splits"]["train"], "j@1:m/writer/train")):
        assert tuple(said["rate_interval"]) == tuple(clustered_interval(values, clusters, 7, f"judge_check/{key}"))


def test_where_nothing_ties_both_rates_are_one_with_one_interval():
    rows = [outcome(f"p{i % 20}", "chosen" if i % 3 else "rejected", prompt=f"q{i}") for i in range(60)]
    for said in ((entry := summarise_check(rows, 1)["judges"][0]), entry["splits"]["train"]):
        assert said["rate_ties_half"] == said["rate"]
        assert said["rate_ties_half_interval"] == said["rate_interval"]


@pytest.mark.parametrize("of", ["persona", "prompt"])
def test_the_interval_is_clustered_by_persona_and_by_prompt(of):
    """Ten personas (or prompts, whose pairs share a base answer) that say one and the same a hundred times are ten observations."""
    rows = []
    for i in range(10):
        for k in range(100):
            persona, prompt = (f"p{i}", f"q{k}") if of == "persona" else (f"p{k}", f"q{i}")
            rows.append(outcome(persona, "chosen" if i < 8 else "rejected", prompt=prompt))
    low, high = summarise_check(rows, 1)["judges"][0]["rate_interval"]
    assert high - low > 0.3


@pytest.mark.parametrize(("scored", "withheld"), [(19, True), (20, False)])
def test_a_rate_of_fewer_than_twenty_is_withheld(scored, withheld):
    rows = [outcome(f"p{i}", "chosen", prompt=f"q{i}") for i in range(scored)] + [outcome("p1", "unscored")] * 9
    entry = summarise_check(rows, 1)["judges"][0]
    names = ("rate", "rate_interval", "rate_ties_half", "rate_ties_half_interval")
    for said in (entry, entry["splits"]["train"]):
        assert said["n"] == scored
        assert [said[name] is None for name in names] == [withheld] * 4


def test_outcomes_tell_their_prompt_and_whether_the_endpoint_failed(tmp_path):
    recipe, checked = recipe_of(), some_pairs()
    table = make(recipe, scripted_calls(recipe, tmp_path, {"judge": always("endpoint_error")}), checked=checked)
    assert {row["pair_id"].rsplit("/", 1)[1] == row["prompt_id"] for row in table.check} == {True}
    # What a judge says is no fault of the endpoint.
    assert not any(row["may_pass"] for row in table.check)

    class Down(ScriptedClient):
        def generate(self, requests, keys, wanted, on_reply):
            on_reply([(i, Failure("endpoint_error", "503")) for i in wanted])

    calls = scripted_calls(recipe, tmp_path)
    calls._given_clients["second_judge"] = Down()
    failed = make(recipe, calls, checked=checked).check
    assert {row["may_pass"] for row in failed if row["judge"].endswith(":another")} == {True}
    assert not any(row["may_pass"] for row in failed if not row["judge"].endswith(":another"))


@pytest.mark.parametrize(("model", "wrote_it"), [("writer", True), ("m", False)])
def test_a_judge_that_wrote_the_revisions_is_named_as_such(model, wrote_it):
    rows = [outcome("p1", "chosen", model=model), outcome("p1", "chosen", model="third", judge="k")]
    entries = {e["judge"]: e["judge_wrote_it"] for e in summarise_check(rows, 1)["judges"]}
    assert entries == {"j@1:m": wrote_it, "k": False}


def test_no_outcomes_give_an_empty_summary():
    assert summarise_check([], 1) == {"paper_rate": 0.96, "judges": []}
