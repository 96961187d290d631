"""Intervals of quantiles: between the binomial's order statistics, and as sure as they claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from segbench.metrics.coverage import simulate_quantile
from segbench.metrics.quantiles import quantile_interval


@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
def test_the_ends_lie_within_one_of_the_binomials_order_statistics(level):
    values = np.arange(1.0, 100)
    middle, low, high = quantile_interval(values, np.arange(99), level)
    assert middle == np.quantile(values, level, method="inverted_cdf")
    assert low == pytest.approx(binom.ppf(0.025, 99, level), abs=1)
    assert high == pytest.approx(binom.ppf(0.975, 99, level) + 1, abs=1)


def test_what_few_values_reach_is_not_bounded():
    _, low, high = quantile_interval([1.0, 2.0, 3.0], np.arange(3), 0.5)
    assert (low, high) == (0, math.inf)
    middle, low, high = quantile_interval([*range(1, 13), *[math.inf] * 8], np.arange(20), 0.75)
    assert (middle, high) == (math.inf, math.inf)
    assert 11 < low < 12


@pytest.mark.parametrize("last", [math.inf, 0.5])
def test_slices_of_a_patient_are_no_patients_where_the_quantile_is_the_largest_value(last):
    """Six patients of twenty slices each say as much as six slices of six patients."""
    values = np.array([0.01, 0.02, *[last] * 4])
    sure = quantile_interval(np.repeat(values, 20), np.repeat(range(6), 20), 0.5)
    assert sure == (last, pytest.approx(0.012, abs=0.002), last)
    assert sure[1] <= quantile_interval(values, range(6), 0.5)[1]


def test_what_few_patients_do_not_bound_their_slices_do_not_either():
    """Of a quartile at least 13 equal groups are needed, whatever the number of cases."""
    values = np.arange(1.0, 11)
    assert quantile_interval(values, range(10), 0.25)[1] == 0
    assert quantile_interval(np.repeat(values, 10), np.repeat(range(10), 10), 0.25)[1] == 0
    assert quantile_interval(np.repeat(values, 10), np.repeat(range(10), 10), 0.75)[2] == math.inf
    assert simulate_quantile(0.25, "alike", 6, 300) >= 0.95


@pytest.mark.parametrize(("patients", "least"), [(4, 0.0), (6, math.inf)])
def test_where_no_case_falls_patients_are_counted(patients, least):
    """The median of the population is finite, and none of them shows it, with chance 2**-N."""
    never = np.full(20 * patients, math.inf)
    assert quantile_interval(never, np.arange(20 * patients) // 20, 0.5)[1] == least
    assert quantile_interval(never[:patients], np.arange(patients), 0.5)[1] == least


@pytest.mark.parametrize("level", [0.25, 0.5])
@pytest.mark.parametrize("last", [math.inf, 0.5])
def test_slices_that_fall_by_themselves_make_nothing_surer_of_patients(last, level):
    """They vary as independent cases do, and do not show that none of the patients falls whole."""
    patients = 4 if level == 0.5 else 8
    for strays in range(6):
        values = np.full(20 * patients, last)
        values[: 17 * strays : 17] = 0.01
        middle, low, _ = quantile_interval(values, np.arange(20 * patients) // 20, level)
        assert (middle, low) == (last, 0)


def test_nor_do_slices_that_hold_where_all_others_are_fallen():
    values = np.zeros(80)
    values[0] = 1
    assert quantile_interval(values, np.arange(80) // 20, 0.75) == (0, 0, math.inf)


@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("groups", [3, 8])
def test_coverage_is_nominal_of_few_patients_with_stray_slices(groups, level):
    for falling in (level + 0.01, 1.0):
        assert simulate_quantile(level, "alike", groups, 300, falling=falling) >= 0.93


def test_one_group_says_nothing_about_patients():
    assert quantile_interval([1.0, 2.0], ["a", "a"], 0.5)[0] == 1
    assert math.isnan(quantile_interval([1.0, 2.0], ["a", "a"], 0.5)[1])


@pytest.mark.parametrize("sizes", ["equal", "unequal"])
def test_coverage_is_nominal_whatever_the_sizes_of_groups(sizes):
    assert 0.90 <= simulate_quantile(0.5, sizes, 24, 300) <= 0.99


@pytest.mark.parametrize("level", [0.5, 0.75])
@pytest.mark.parametrize("sizes", ["unequal", "alike"])
def test_coverage_is_nominal_where_hardly_more_cases_fall_than_the_quantile_needs(sizes, level):
    assert 0.90 <= simulate_quantile(level, sizes, 24, 300, falling=level + 0.05) <= 0.99
