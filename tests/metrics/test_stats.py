"""Intervals over groups: closed forms, coverage by simulation, and that slices are not patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from segbench.metrics.coverage import SHAPES, SIZES, simulate
from segbench.metrics.permutation import fewest_groups, sign_flip
from segbench.metrics.stats import (
    FEW_GROUPS,
    THIN_TAIL,
    UNSEEN_TAIL,
    chances_of_drop,
    groups_needed,
    mean_interval,
    mean_intervals,
    paired_difference,
)


def _names(numbers: np.ndarray) -> list[str]:
    return [f"patient-{number}" for number in numbers]


def test_interval_of_independent_cases_is_the_normal_one():
    # For N independent cases the standard error is std / sqrt(N), and the interval tends to
    # mean +- 1.96 of it.
    values = np.random.default_rng(1).normal(0.8, 0.1, size=2000)
    interval = mean_interval(values, _names(np.arange(2000)))
    half = 1.959964 * values.std() / math.sqrt(2000)
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.12 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.12 * half)
    assert (interval.cases, interval.groups) == (2000, 2000)


@pytest.mark.parametrize("groups", [3, 23, 300])
def test_the_error_is_the_jackknifes_of_the_ratio(groups):
    random = np.random.default_rng(groups)
    member = np.repeat(np.arange(groups), random.integers(1, 5, size=groups))
    values = random.uniform(size=len(member))
    without = [values[member != left_out].mean() for left_out in range(groups)]
    spread = np.subtract(without, values.mean())
    expected = math.sqrt((groups - 1) / groups * (spread**2).sum())
    assert mean_interval(values, member).error == pytest.approx(expected)


def test_without_skewness_it_is_t_on_the_logit_scale():
    values = [0.6, 0.7, 0.8, 0.9] * 5
    interval = mean_interval(values, _names(np.arange(20)))
    error = np.std(values, ddof=1) / math.sqrt(20)
    reach = student.ppf(0.975, 19) * error / (0.75 * 0.25)
    assert interval.low == pytest.approx(expit(logit(0.75) - reach))
    assert interval.high == pytest.approx(expit(logit(0.75) + reach))


def test_many_at_once_are_each_as_alone():
    random = np.random.default_rng(2)
    points, groups = random.integers(0, 5, 200), random.integers(0, 9, 200)
    values = np.where(random.random(200) < 0.1, math.nan, random.uniform(size=200))
    found = mean_intervals(values, points, groups, 6)
    for point in range(5):
        alone = mean_interval(values[points == point], groups[points == point])
        assert (found.mean[point], found.low[point], found.high[point]) == pytest.approx(
            (alone.mean, alone.low, alone.high), abs=1e-12
        )
        assert (found.cases[point], found.groups[point]) == (alone.cases, alone.groups)
    assert (found.cases[5], found.groups[5]) == (0, 0)


@pytest.mark.parametrize(
    ("of", "low", "high"), [("unit", 0, 1), ("signed", -1, 1), ("distance", 0, 90)]
)
def test_no_bound_leaves_the_range_of_its_score(of, low, high):
    random = np.random.default_rng(4)
    for groups in (2, 3, 5):
        values = np.where(random.random(groups) < 0.7, high, low) * random.uniform(0.9, 1, groups)
        interval = mean_interval(values, np.arange(groups), of=of)
        assert low <= interval.low <= interval.mean <= interval.high
        assert of == "distance" or interval.high <= high


def test_few_groups_and_a_tail_of_one_are_marked():
    random = np.random.default_rng(6)
    values = random.normal(0.9, 0.01, 20)
    assert mean_interval(values[:9], np.arange(9)).doubt == FEW_GROUPS
    assert mean_interval(values, np.arange(20)).doubt == UNSEEN_TAIL
    assert mean_interval([0.0] * 39, np.arange(39)).doubt == UNSEEN_TAIL  # all alike, so far
    assert mean_interval(random.normal(0.9, 0.01, 40), np.arange(40)).doubt == ""
    assert mean_interval([*values[1:], 0.1], np.arange(20)).doubt == THIN_TAIL
    # Twenty patients of whom one has nearly all cases are worth little more than that one.
    one = np.array([*range(20), *[0] * 200])
    assert mean_interval(random.normal(0.9, 0.01, 220), one).doubt == FEW_GROUPS


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("groups", [48, 123])
def test_intervals_without_a_mark_cover_what_they_claim(shape, sizes, groups):
    assert 0.92 <= simulate(shape, sizes, groups, 4000).unmarked <= 0.97


@pytest.mark.parametrize("shape", SHAPES[:3], ids=lambda shape: shape.name)
@pytest.mark.parametrize("sizes", SIZES)
def test_of_fewer_than_forty_groups_every_interval_is_marked_however_well_it_covers(shape, sizes):
    found = simulate(shape, sizes, 24, 2000)
    assert found.marked == 1
    assert 0.92 <= found.used <= 0.97
    assert found.used > found.percentile


def test_what_no_sample_shows_is_counted_and_marked():
    found = simulate(SHAPES[3], "equal", 16, 2000)
    assert found.unseen == pytest.approx(0.92**16, abs=0.03)
    assert (found.marked, found.missed) == (1, 0)


def test_the_chance_of_a_drop_is_that_of_the_t_test():
    random = np.random.default_rng(8)
    values = random.normal(-0.01, 0.05, 30)
    scores = np.concatenate([values, [-0.1] * 5, [-0.1]])  # spread, alike, and a single one
    points = np.repeat([0, 1, 2], [30, 5, 1])
    ours = chances_of_drop(mean_intervals(scores, points, np.arange(36), 3, of="signed"))
    assert ours[0] == pytest.approx(ttest_1samp(values, 0, alternative="less").pvalue)
    assert ours[1:].tolist() == [0, 1]


@pytest.mark.parametrize(("spread", "tests"), [(0.1, 1), (0.1, 21), (0.03, 1), (0.03, 21)])
def test_as_many_groups_as_needed_tell_the_difference_apart_by_the_test_of_the_tables(
    spread, tests
):
    """One difference of 0.02 among tests of which no other finds anything."""
    (needed,) = groups_needed([spread / 20], [400], [400], 0.02, 0.05 / tests)
    needed = max(needed, fewest_groups(tests))
    values = np.random.default_rng(9).normal(0.02, spread, (needed, 500))
    found = (sign_flip(values, tests) * tests <= 0.05).mean()
    assert 0.75 < found < 0.87


def test_where_no_spread_of_groups_is_known_two_are_asked_for():
    errors = [math.nan, 0.0]
    assert groups_needed(errors, [1, 5], [1, 5], 0.02).tolist() == [2, 2]


def test_equal_values_have_an_interval_of_no_width():
    interval = mean_interval([0.5] * 12, _names(np.arange(12) // 3))
    assert (interval.low, interval.mean, interval.high) == (0.5, 0.5, 0.5)


def test_one_group_says_nothing_about_patients():
    interval = mean_interval([0.1, 0.5, 0.9], ["volume"] * 3)
    assert interval.mean == pytest.approx(0.5)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert (interval.cases, interval.groups) == (3, 1)


def test_undefined_cases_are_left_out_of_mean_and_counts():
    with_gaps = mean_interval([0.1, math.nan, 0.5, 0.9], ["a", "gone", "b", "c"])
    without = mean_interval([0.1, 0.5, 0.9], ["a", "b", "c"])
    assert with_gaps == without
    empty = mean_interval([math.nan, math.nan], ["a", "b"])
    assert math.isnan(empty.mean)
    assert (empty.cases, empty.groups) == (0, 0)


@given(
    values=st.lists(st.floats(0, 1), min_size=4, max_size=12),
    copies=st.integers(2, 5),
)
def test_duplicating_every_slice_does_not_narrow_the_interval(values, copies):
    groups = _names(np.arange(len(values)) // 2)
    once = mean_interval(values, groups)
    often = mean_interval(np.repeat(values, copies), np.repeat(groups, copies))
    assert often.low == pytest.approx(once.low, abs=1e-12)
    assert often.high == pytest.approx(once.high, abs=1e-12)
    assert often.cases == copies * once.cases
    assert often.groups == once.groups


def test_coverage_is_nominal_over_groups_and_not_over_slices():
    # 40 patients of 1 to 6 correlated slices: 95 % of intervals must hold the true mean; an
    # interval that mistakes slices for patients misses it far more often.
    random = np.random.default_rng(7)
    by_group = by_slice = 0
    trials = 300
    for _ in range(trials):
        sizes = random.integers(1, 7, size=40)
        member = np.repeat(np.arange(40), sizes)
        level = random.normal(0.7, 0.1, size=40)
        values = level[member] + random.normal(0, 0.02, size=len(member))
        honest = mean_interval(values, _names(member))
        naive = mean_interval(values, _names(np.arange(len(member))))
        by_group += honest.low <= 0.7 <= honest.high
        by_slice += naive.low <= 0.7 <= naive.high
    assert 0.90 <= by_group / trials <= 0.98
    assert by_slice / trials < 0.85


def test_pairing_sees_a_difference_that_two_intervals_hide():
    random = np.random.default_rng(3)
    hard = random.uniform(0.3, 0.9, size=60)
    better = hard + 0.01 + random.normal(0, 0.005, size=60)
    groups = _names(np.arange(60))
    difference = paired_difference(better, hard, groups)
    assert difference.mean == pytest.approx((better - hard).mean(), abs=1e-12)
    assert difference.low > 0
    assert mean_interval(better, groups).low < mean_interval(hard, groups).high


def test_reordering_the_cases_changes_nothing():
    random = np.random.default_rng(5)
    values, groups = random.uniform(size=30), np.array(_names(np.arange(30) // 3))
    order = random.permutation(30)
    first, second = mean_interval(values, groups), mean_interval(values[order], groups[order])
    assert second.low == pytest.approx(first.low, abs=1e-12)
    assert second.high == pytest.approx(first.high, abs=1e-12)


def test_misaligned_input_is_refused():
    with pytest.raises(ValueError, match="alike"):
        mean_interval([0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match="same cases"):
        paired_difference([0.1, 0.2], [0.1], ["a", "b"])
