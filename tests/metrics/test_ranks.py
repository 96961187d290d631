"""Kendall's tau of a few scores is SciPy's, ties and all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segbench.metrics.ranks import kendall_tau


@pytest.mark.parametrize("seed", range(5))
def test_it_is_that_of_scipy(seed):
    from scipy.stats import kendalltau

    first, second = np.random.default_rng(seed).integers(0, 6, (2, 12)).astype(float)
    assert kendall_tau(first, second) == pytest.approx(kendalltau(first, second).statistic)


def test_of_scores_that_tell_nothing_apart_it_is_not_a_number():
    assert math.isnan(kendall_tau(np.ones(3), np.arange(3.0)))
    assert kendall_tau(np.arange(3.0), 5 * np.arange(3.0)) == 1
