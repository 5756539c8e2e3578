"""pass@k against counting every subset."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InputError
from eval.bench.pass_at_k import check_samples, ks_for, pass_at_k


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 9))
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(verdicts: list[bool], k: int) -> None:
    found = pass_at_k(len(verdicts), sum(verdicts), k)
    if k > len(verdicts):
        assert math.isnan(found)
        return
    subsets = list(itertools.combinations(verdicts, k))
    assert found == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(st.integers(1, 40), st.data())
def test_pass_at_k_never_falls_with_k_and_starts_at_the_pass_rate(scored: int, data: st.DataObject) -> None:
    passed = data.draw(st.integers(0, scored))
    curve = [pass_at_k(scored, passed, k) for k in range(1, scored + 1)]
    assert curve[0] == pytest.approx(passed / scored)
    assert all(before <= after + 1e-12 for before, after in itertools.pairwise(curve))
    assert curve[-1] == float(passed > 0)


@pytest.mark.parametrize(("scored", "passed", "k"), [(4, 2, 0), (4, 2, -1), (4, 5, 1), (4, -1, 1)])
def test_impossible_counts_are_refused(scored: int, passed: int, k: int) -> None:
    with pytest.raises(InputError):
        pass_at_k(scored, passed, k)


def test_k_goes_up_to_the_number_of_samples() -> None:
    assert ks_for(16) == [1, 2, 4, 8, 16]
    assert ks_for(5) == [1, 2, 4]
    with pytest.raises(InputError, match="at least 1"):
        ks_for(0)


def test_samples_that_could_not_differ_are_refused() -> None:
    with pytest.raises(InputError, match="temperature"):
        check_samples(2, 0.0)
    check_samples(1, 0.0)
    check_samples(2, 0.1)
