"""From numbers to verdicts: beyond the threshold is suspicious, surely beyond it is failed."""

from __future__ import annotations

import math

import pytest

from segbench.diagnosis import checks
from segbench.metrics.stats import Interval


def difference(mean: float, low: float = math.nan) -> Interval:
    return Interval(mean, low, 2 * mean - low, 8, 8)


@pytest.mark.parametrize(
    ("mean", "low", "verdict"),
    [
        (-0.3, -0.4, "pass"),
        (0.01, 0.005, "pass"),
        (0.05, 0.0, "suspicious"),
        (0.05, 0.03, "fail"),
        (0.5, math.nan, "suspicious"),  # one patient proves nothing
    ],
)
def test_a_comparison_fails_where_its_whole_interval_is_beyond(
    mean: float, low: float, verdict: str
) -> None:
    check = checks.check_single_step(difference(mean, low))
    assert (check.verdict, check.number, check.threshold) == (verdict, mean, checks.SCORE)


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.0, "pass"), (0.05, "suspicious"), (0.1, "fail"), (1.0, "fail")]
)
def test_a_share_has_two_limits(share: float, verdict: str) -> None:
    assert checks.check_saturated(share).verdict == verdict


def test_randomness_is_a_failure_only_where_it_is_not_declared() -> None:
    assert checks.check_random(0.0, 1).verdict == "pass"
    assert checks.check_random(1e-7, 1).verdict == "fail"
    assert checks.check_random(0.3, 16).verdict == "pass"


def test_the_worst_rise_of_the_curve_counts() -> None:
    check = checks.check_growth([difference(-0.2, -0.3), difference(0.1, 0.08)])
    assert (check.verdict, check.number) == ("fail", 0.1)


def test_the_worst_check_is_the_verdict() -> None:
    good, odd = checks.check_saturated(0.0), checks.check_saturated(0.05)
    assert checks.overall([good, good]) == "pass"
    assert checks.overall([odd, good]) == "suspicious"
    assert checks.overall([odd, checks.check_random(1.0, 1), good]) == "fail"


def test_as_many_gradients_again_may_find_little_and_no_more() -> None:
    assert checks.check_twice_the_cost(difference(0.04, 0.03)).verdict == "pass"
    assert checks.check_twice_the_cost(difference(0.2, 0.1)).verdict == "fail"
    beaten = checks.check_standard(difference(0.2, 0.1), "square")
    assert beaten.verdict == "fail"
    assert beaten.meaning.startswith("square leaves less than the standard suite")


def test_checks_of_another_loss_say_so() -> None:
    check = checks.check_zero_gradients(1.0)
    assert checks.named_after(check, "") == check
    assert checks.named_after(check, "scored-hinge").name == f"{check.name} (scored-hinge)"
