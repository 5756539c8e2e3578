"""The stages of pairs: what is said of a table is said of its rows, and what an endpoint left open is made up for."""

import random

import pytest

from builder.llm.messages import Failure
from builder.llm.scripted import ScriptedClient, scripted_reply
from builder.pairs.dpf import judge_preference
from builder.pairs.inferable import inferable_attributes
from builder.stages.judgements import write_judgements
from builder.stages.pairs import make_pairs
from builder.stages.site import Site
from builder.tables import STAGE_OF_TABLE, read_columns, read_table, table_schema, write_table
from tests.builder.small_shard import judges_of, personas, prompts, recipe_of, scripted_calls


def run_stage(folder, config, replies=None, overrides=(), clients=None, people=60):
    """(rows, what the stage says, judgements); the responses stay in the folder for another run."""
    recipe = recipe_of(*overrides)
    for table, rows in (("personas", personas(people)), ("prompts", prompts())):
        columns = dict.fromkeys(table_schema(table).names)
        write_table(folder / "tables" / f"{table}.parquet", table, [columns | row for row in rows])
    calls = scripted_calls(recipe, folder, replies)
    calls._given_clients |= clients or {}
    site = Site(folder, calls, judges_of(recipe), "key")
    result = make_pairs(recipe, site, config)
    write_judgements(site, [STAGE_OF_TABLE[config]])
    calls.record.close()
    return read_table(folder, config), result, read_table(folder, "judgements")


def some_words(request, numbers, words=("to", "dogs", "kindly", "religion")):
    draw = random.Random(str(request.messages) + str(request.sample_index))
    return " ".join(draw.choice(words) for _ in range(draw.choice(numbers)))


def shown(request):
    return [request.messages[-1]["content"].split(f"<answer_{x}>")[1].split(f"</answer_{x}>")[0].strip() for x in "ab"]


def likes_the_longer(request):
    a, b = map(len, shown(request))
    return f"REASON: r\nVERDICT: {'A' if a > b else 'B' if a < b else 'tie'}"


OF_MANY_LENGTHS = {
    "generator": lambda request: some_words(request, range(4, 9)),
    "reviser": lambda request: f"REVISED PREFERENCE: {some_words(request, [3, 4, 4, 5, 5, 6, 7, 8])}\nDONE",
    "judge": likes_the_longer,
}


@pytest.fixture(scope="module")
def matched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matched")
    return folder, *run_stage(folder, "dpf_matched", OF_MANY_LENGTHS)


def test_dropped_pairs_leave_no_trace_in_what_is_said_of_the_matched_table(matched):
    folder, rows, result, judgements = matched
    assert 100 < len(rows) == result.counts["out"] < result.counts["in"] == 60 * 12
    assert result.counts["in"] - len(rows) == sum(result.counts["dropped"].values())
    kept = {row["pair_id"] for row in rows}
    assert {row["pair_id"] for row in judgements} == kept
    assert len(judgements) == 2 * len(rows)
    # Among all pairs this judge prefers fewer revisions: more of them are shorter.
    assert result.details["judge_prefers_revision"] == judge_preference([r["judge_verdict"] for r in rows], False)
    assert result.details["judge_prefers_revision"]["n"] == len(rows)
    texts = read_columns(folder, "dpf_matched", ("pair_id", "persona_id", "prompt_id", "chosen"))
    found, details = inferable_attributes(texts, personas(60), recipe_of().seed)
    assert details["attributes"]
    assert result.details["inferable_attributes"] == details
    assert {row["pair_id"]: row["inferable_attributes"] for row in rows} == found


@pytest.mark.parametrize("config", ["dpf", "dpf_matched"])
def test_what_the_probe_finds_stands_in_its_pair(tmp_path, monkeypatch, config):
    """So few scripted answers give nothing away."""

    def find(texts, personas, seed):
        return {pair_id: [pair_id] for pair_id in texts["pair_id"].to_pylist()}, {}

    monkeypatch.setattr("builder.stages.pairs.inferable_attributes", find)
    rows, _, _ = run_stage(tmp_path, config, OF_MANY_LENGTHS)
    assert len(rows) > 100
    assert all(row["inferable_attributes"] == [row["pair_id"]] for row in rows)


def test_matched_pairs_are_even_in_the_whole_table(matched):
    _, rows, _, _ = matched
    shorter = [
        (r["chosen_tokens"] < r["rejected_tokens"]) + 0.5 * (r["chosen_tokens"] == r["rejected_tokens"]) for r in rows
    ]
    assert sum(shorter) / len(shorter) == 0.5


@pytest.mark.parametrize("config", ["dpf", "dpf_matched"])
def test_a_reviser_that_never_obeys_gives_an_empty_table(tmp_path, config):
    rows, result, judgements = run_stage(tmp_path, config, {"reviser": lambda request: "No."}, people=8)
    assert rows == judgements == []
    assert result.counts == {"in": 96, "out": 0, "dropped": {"revision_unreadable": 96}}
    assert result.details["judge_prefers_revision"]["rate"] is None


def test_only_judged_pairs_are_counted(tmp_path):
    rows, result, _ = run_stage(tmp_path, "dpf", overrides=["pairs.judged=check", "pairs.judge_check=10"], people=8)
    assert sum(row["judge_verdict"] is not None for row in rows) == 10
    assert result.details["judge_prefers_revision"]["n"] == 10


def test_pairs_chosen_without_a_verdict_are_counted_of_the_kept_rows(tmp_path):
    replies = OF_MANY_LENGTHS | {"judge": lambda request: "A riddle."}
    rows, result, _ = run_stage(tmp_path, "dpf_matched", replies, ["pairs.candidates=2"])
    # Where the two candidates are the same text there was no choice.
    assert 0.5 * len(rows) < result.details["chosen_without_judge"] <= len(rows) < result.counts["in"]
    _, result, _ = run_stage(tmp_path / "well", "dpf_matched", OF_MANY_LENGTHS, ["pairs.candidates=2"])
    assert result.details["chosen_without_judge"] == 0


class Down(ScriptedClient):
    """The endpoint fails on everything that is asked about one question."""

    def generate(self, requests, keys, wanted, on_reply):
        down = [i for i in wanted if "number 3?" in requests[i].messages[-1]["content"]]
        on_reply([(i, Failure("endpoint_error", "503")) for i in down])
        super().generate(requests, keys, [i for i in wanted if i not in down], on_reply)


@pytest.mark.parametrize(
    ("role", "overrides", "dropped"),
    [
        ("judge", ["pairs.candidates=2", "pairs.judged=check", "pairs.judge_check=0"], ["choice_endpoint_error"]),
        ("second_judge", [], []),
    ],
)
def test_a_shard_with_a_passing_fault_is_worked_on_again(tmp_path, role, overrides, dropped):
    """The choice among candidates, and the judge check, whose calls no row shows."""
    replies = {"reviser": OF_MANY_LENGTHS["reviser"]}
    whole, said, _ = run_stage(tmp_path / "whole", "dpf", replies, overrides, people=8)
    gaps, open_, _ = run_stage(tmp_path / "gaps", "dpf", replies, overrides, {role: Down()}, people=8)
    assert list(open_.counts["dropped"]) == dropped
    assert gaps == [row for row in whole if row["prompt_id"] != "q00003"] if dropped else gaps == whole
    assert not list((tmp_path / "gaps" / "shards").glob("*/*.json"))
    filled, again, _ = run_stage(tmp_path / "gaps", "dpf", replies, overrides, people=8)
    assert filled == whole
    assert list((tmp_path / "gaps" / "shards").glob("*/*.json"))
    untimed = {"assembly_seconds": 0}
    assert again.details | untimed == said.details | untimed
    assert again.counts == said.counts


def test_a_judge_that_quotes_a_fault_does_not_keep_its_shard_open(tmp_path):
    replies = {"judge": lambda request: f"{scripted_reply(request)}\nREASON: endpoint_error\nVERDICT: A"}
    _, _, judgements = run_stage(tmp_path, "dpf", replies, people=8)
    assert {row["reason"] for row in judgements} >= {"endpoint_error"}
    assert list((tmp_path / "shards").glob("*/*.json"))
