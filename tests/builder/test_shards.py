"""When a shard is done, and when it is worked on again."""

import pytest

from builder.judge.judge import Judgement, Verdict
from builder.pairs.judgements import judgement_rows
from builder.pairs.shard_result import ShardResult
from builder.stages.shards import is_final, run_shard
from builder.tables import arrow_table
from tests.builder.small_shard import judges_of, recipe_of, scripted_calls


def part(**said):
    return ShardResult(arrow_table("dpf", []), {"in": 0, "out": 0, "dropped": {}}, **said)


def entry(reason):
    return {"stage": "pairs", "item": "dpf/p0/q0", "reason": reason, "detail": "the judge said endpoint_error"}


@pytest.mark.parametrize("step", ["answer", "critique", "revision", "choice"])
def test_what_an_endpoint_left_open_keeps_the_shard_open(step):
    assert not is_final(part(ledger=[entry("identical_texts"), entry(f"{step}_endpoint_error")]))


@pytest.mark.parametrize("reason", ["revision_unreadable", "critique_refused", "identical_texts"])
def test_what_is_lost_for_good_does_not(reason):
    assert is_final(part(ledger=[entry(reason)]))


def judgements(verdict, reason):
    calls = (Judgement("AB", verdict, None, reason), Judgement("BA", "A", 1.0, "kind"))
    return judgement_rows(judges_of(recipe_of())[0], "dpf/p0/q0", Verdict("unscored", None, reason, calls))


@pytest.mark.parametrize(
    ("verdict", "reason", "final"),
    [
        ("unscored", "endpoint_error", False),
        ("unscored", "unreadable", True),
        ("A", "endpoint_error", True),
        ("tie", "The second answer has an endpoint_error in it.", True),
    ],
)
def test_what_a_judge_writes_is_not_taken_for_a_fault(verdict, reason, final):
    assert is_final(part(judgements=judgements(verdict, reason))) == final


def test_an_open_outcome_of_the_judge_check_keeps_the_shard_open():
    assert is_final(part(check=[{"verdict": "unscored", "may_pass": False}]))
    assert not is_final(
        part(check=[{"verdict": "chosen", "may_pass": False}, {"verdict": "unscored", "may_pass": True}])
    )


def test_a_note_does_not_outlive_its_table(tmp_path):
    """With --retry-failed a shard that was done may end with gaps; the run after that fills them."""
    calls, done = scripted_calls(recipe_of(), tmp_path), []
    parts = [part(), part(ledger=[entry("revision_endpoint_error")]), part(details={"filled": 1})]

    def work(shared, shard, calls):
        done.append(shard)
        return parts[len(done) - 1]

    path = tmp_path / "00000.parquet"
    for reuse in (True, False, True):
        finished = run_shard(path, work, None, "s", calls, "key", reuse)
    assert finished.details == {"filled": 1}
    assert run_shard(path, work, None, "s", calls, "key", True) == finished
    assert len(done) == 3
