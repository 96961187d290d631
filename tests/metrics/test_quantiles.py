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


def test_one_group_says_nothing_about_patients():
    assert quantile_interval([1.0, 2.0], ["a", "a"], 0.5)[0] == 1
    assert math.isnan(quantile_interval([1.0, 2.0], ["a", "a"], 0.5)[1])


@pytest.mark.parametrize("sizes", ["equal", "unequal"])
def test_coverage_is_nominal_whatever_the_sizes_of_groups(sizes):
    assert 0.90 <= simulate_quantile(0.5, sizes, 24, 300) <= 0.99
