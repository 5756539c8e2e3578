"""Figures as words: what is not known is never a number."""

import dataclasses

from eval.printing import number_with_interval, percent, percent_with_interval, plain_number
from training.estimates import Estimate


def test_a_figure_that_is_not_known_is_a_dash_and_a_withheld_one_its_reason() -> None:
    withheld = Estimate(None, None, None, 3, 1, "n < 20")
    assert (plain_number(None), percent(None)) == ("-", "-")
    assert number_with_interval(withheld) == percent_with_interval(withheld) == "n < 20"


def test_figures_are_rounded_and_zero_has_no_sign() -> None:
    assert (plain_number(0.456), plain_number(-0.001), plain_number(0.1234, 1, 100)) == ("0.46", "0.00", "12.3")
    assert (percent(0.1234), percent(0.996, 0), percent(-0.0001)) == ("12.3 %", "100 %", "0.0 %")


def test_an_estimate_and_the_same_in_a_result_read_alike() -> None:
    known, bare = Estimate(0.5, 0.25, 0.75, 40, 8), Estimate(0.5, None, None, 40, 1, "no interval: one cluster")
    for estimate in (known, dataclasses.asdict(known)):
        assert number_with_interval(estimate) == "0.50 [0.25 0.75]"
        assert percent_with_interval(estimate) == "50 % [25 75]"
    assert (number_with_interval(bare), percent_with_interval(bare)) == ("0.50", "50 %")
