import math

import numpy as np
import pytest

from builder.errors import InputError
from builder.randomness import rng_for
from eval.agreement.kappa import kappa_estimates
from eval.human.power import (
    FIGURES,
    JUDGE,
    MAJORITY,
    RATERS,
    TWO_RATERS,
    Assumed,
    Design,
    closed_form_half_width,
    personas_needed,
    planned,
    simulated_answers,
    standard_error,
)

ALIKE = {"persona_spread": 0.0, "question_spread": 0.0}


def test_the_closed_form_gives_the_figures_of_the_paper_s_design() -> None:
    # Ten items of one persona, and the 200 of twenty, at kappa 0.6.
    assert standard_error(0.6, 10) == pytest.approx(0.25, abs=0.005)
    assert closed_form_half_width(0.6, 10) == pytest.approx(0.50, abs=0.005)
    assert closed_form_half_width(0.6, 200) == pytest.approx(0.11, abs=0.005)


@pytest.mark.parametrize(("kappa", "base_rate"), [(0.6, 0.5), (0.3, 0.5), (0.6, 0.3), (0.9, 0.5)])
def test_the_simulation_agrees_with_the_closed_form_where_that_holds(kappa: float, base_rate: float) -> None:
    """Two raters, independent items, everybody alike. The closed form takes the rate of chance agreement as known, so it is near only."""
    found = planned(20, 2, 10, Assumed(kappa=kappa, base_rate=base_rate, **ALIKE), printed_studies=0)
    assert found.pooled[TWO_RATERS] == pytest.approx(closed_form_half_width(kappa, 200, base_rate), rel=0.08)
    # With two raters each other's kappa is the one kappa that there is.
    assert found.pooled[RATERS] == pytest.approx(found.pooled[TWO_RATERS], rel=0.02)
    assert found.one_persona[TWO_RATERS] == pytest.approx(closed_form_half_width(kappa, 10, base_rate), rel=0.2)


def test_simulated_answers_have_the_kappa_that_was_asked_for_at_any_base_rate() -> None:
    for base_rate in (0.5, 0.2):
        rng = rng_for(0, "test", str(base_rate))
        people, judges, _ = simulated_answers(1, Design(200, 3, 50, 5000), Assumed(0.5, 0.2, base_rate, **ALIKE), rng)
        one, other = (people[0, ..., k].reshape(-1) for k in (0, 1))
        true, wrong, weaker = (judges[0, ..., k].reshape(-1) for k in range(3))
        for first, second, expected in ((one, other, 0.5), (one, true, 0.5), (one, wrong, 0.2), (one, weaker, 0.4)):
            found = np.corrcoef(first, second)[0, 1]  # equal margins: kappa is the correlation
            assert found == pytest.approx(expected, abs=0.04)
        assert people.mean() == pytest.approx(base_rate, abs=0.02)


def test_more_raters_more_personas_and_less_spread_make_narrower_intervals() -> None:
    few, more, wide = (
        planned(20, 2, 10, printed_studies=0),
        planned(20, 6, 10, printed_studies=0),
        planned(20, 6, 10, Assumed(persona_spread=0.3), printed_studies=0),
    )
    for name in (RATERS, JUDGE):
        assert few.pooled[name] > more.pooled[name]  # type: ignore[operator]
        assert wide.pooled[name] > more.pooled[name]  # type: ignore[operator]
    # How far personas differ says nothing of how well one of them is known.
    assert wide.one_persona[JUDGE] == pytest.approx(more.one_persona[JUDGE], rel=0.1)
    large = planned(80, 4, 10, printed_studies=0)
    assert large.pooled[JUDGE] == pytest.approx(planned(20, 4, 10, printed_studies=0).pooled[JUDGE] / 2, rel=0.1)  # type: ignore[operator]
    assert few.pooled[MAJORITY] is None
    assert few.with_majority is None


def test_power_is_the_error_rate_without_a_difference_and_rises_with_it() -> None:
    # One-sided: half of the 5 % lies on the side that counts.
    assert planned(
        20, 4, 10, Assumed(kappa=0.5, control=0.5, **ALIKE), printed_studies=0
    ).against_control == pytest.approx(0.025, abs=0.015)
    found = planned(20, 4, 10, printed_studies=0)
    assert found.against_control == pytest.approx(1.0, abs=0.01)
    assert found.one_persona_against_control is not None
    assert 0.1 < found.one_persona_against_control < 0.8
    more = planned(80, 4, 10, printed_studies=0)
    assert found.against_weaker < more.against_weaker  # type: ignore[operator]


def test_printed_intervals_are_those_of_the_analysis_and_err_on_the_wide_side() -> None:
    found = planned(20, 4, 10, printed_studies=6)
    rng = rng_for(0, "test", "printed")
    people, _, asked = simulated_answers(1, Design(20, 4, 10, 100), Assumed(), rng)
    columns = [["AB"[int(x)] for x in people[0, ..., k].reshape(-1)] for k in (0, 1)]
    clusters = [(f"p{i // 10}",) for i in range(200)]
    prompts = [f"q{q}" for q in asked[0].reshape(-1)]
    ((estimate, _),) = kappa_estimates([(columns[0], columns[1])], clusters, prompts, rng)
    assert estimate.high is not None
    assert estimate.low is not None
    assert found.printed[TWO_RATERS] == pytest.approx((estimate.high - estimate.low) / 2, rel=0.3)
    for name in FIGURES:
        assert found.printed[name] > found.pooled[name]  # type: ignore[operator]


def test_the_personas_that_a_width_needs_give_that_width() -> None:
    needed = personas_needed(0.1, 4, 10, JUDGE)
    assert needed is not None
    width = planned(needed, 4, 10, printed_studies=0).pooled[JUDGE]
    assert width == pytest.approx(0.1, rel=0.1)
    wider = personas_needed(0.1, 4, 10, JUDGE, widened=1.5)
    assert wider is not None
    assert wider == pytest.approx(2.25 * needed, rel=0.15)
    assert personas_needed(0.1, 2, 10, MAJORITY) is None
    assert personas_needed(0.001, 4, 10) is None


def test_the_same_plan_is_computed_every_time_and_numbers_out_of_range_are_refused() -> None:
    assert planned(5, 3, 6, studies=100, printed_studies=2) == planned(5, 3, 6, studies=100, printed_studies=2)
    with pytest.raises(InputError, match=r"raters is 1.*kappa is 0; give a number above 0"):
        planned(5, 1, 6, Assumed(kappa=0))
    with pytest.raises(InputError, match="half-width is 0"):
        personas_needed(0, 4, 10)
    with pytest.raises(InputError, match="no figure of a study"):
        personas_needed(0.1, 4, 10, "luck")
    assert math.isfinite(standard_error(1.0, 5))
