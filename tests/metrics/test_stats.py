"""The group bootstrap: closed forms, coverage by simulation, and that slices are not patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from segbench.metrics.stats import RESAMPLES, SEED, mean_interval, paired_difference


def _names(numbers: np.ndarray) -> list[str]:
    return [f"patient-{number}" for number in numbers]


def test_interval_of_independent_cases_is_the_normal_one():
    # For N independent cases the bootstrap's standard error is std / sqrt(N), and the percentile
    # interval tends to mean +- 1.96 of it.
    values = np.random.default_rng(1).normal(0.8, 0.1, size=2000)
    interval = mean_interval(values, _names(np.arange(2000)))
    half = 1.959964 * values.std() / math.sqrt(2000)
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.12 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.12 * half)
    assert (interval.cases, interval.groups) == (2000, 2000)


@pytest.mark.parametrize("groups", [2, 23, 300])
def test_the_interval_is_scipys_percentile_bootstrap_of_the_ratio(groups):
    random = np.random.default_rng(groups)
    member = np.repeat(np.arange(groups), random.integers(1, 5, size=groups))
    values = random.uniform(size=len(member))
    ours = mean_interval(values, member)  # numbers, whose order is the groups'
    theirs = bootstrap(
        (np.bincount(member, weights=values), np.bincount(member)),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=RESAMPLES,
        random_state=np.random.default_rng(SEED),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_two_groups_give_the_two_group_means_as_bounds():
    # Resamples of {a, b} are aa, ab, ba, bb with a quarter of the mass at either end.
    interval = mean_interval([0.2, 0.2, 0.6], ["a", "a", "b"])
    assert (interval.low, interval.high) == (pytest.approx(0.2), pytest.approx(0.6))
    assert interval.mean == pytest.approx(1.0 / 3)


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
