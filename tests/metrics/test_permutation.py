"""Permutation of who is who against scipy's, and Holm's correction by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import permutation_test

from segbench.metrics.permutation import LEVEL, draws, fewest_groups, holm, sign_flip, smallest


@pytest.mark.parametrize(("groups", "exact"), [(8, True), (40, False)])
def test_p_values_are_scipys(groups, exact):
    random = np.random.default_rng(groups)
    sums = random.normal(0.3, 1, (groups, 3))
    theirs = [
        permutation_test(
            (column, np.zeros(groups)), lambda a, b: a.sum() - b.sum(), permutation_type="samples",
            n_resamples=2**20 if exact else 9999, vectorized=False, rng=np.random.default_rng(0),
        ).pvalue
        for column in sums.T
    ]  # fmt: skip
    assert sign_flip(sums) == pytest.approx(theirs, abs=1e-12 if exact else 0.02)


def test_where_nothing_differs_nothing_is_found_more_often_than_it_says():
    random = np.random.default_rng(1)
    chances = sign_flip(
        random.standard_exponential((30, 2000)) * random.choice([-1, 1], (30, 2000))
    )
    assert (chances <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("groups", [4, 13, 14])
def test_the_smallest_is_that_of_differences_of_one_sign(groups):
    assert sign_flip(np.ones((groups, 1)))[0] == pytest.approx(smallest(groups), rel=0.01, abs=2e-4)


@pytest.mark.parametrize(("tests", "fewest"), [(1, 6), (21, 10), (204, 13), (205, 14), (3000, 18)])
def test_of_the_fewest_groups_a_difference_is_told_among_so_many_tests(tests, fewest):
    assert fewest_groups(tests) == fewest
    least = smallest(fewest, tests)
    assert least * tests <= LEVEL < smallest(fewest - 1, tests) * tests
    noise = 0 if fewest <= 13 else 3 / draws(tests)
    assert sign_flip(np.ones((fewest, 1)), tests)[0] == pytest.approx(least, abs=noise)


def test_of_many_groups_any_number_of_tests_leaves_room_for_a_finding():
    assert draws(1) == draws(250)  # few tests give the p-values that one gives
    values = np.random.default_rng(2).normal(2, 1, (30, 2))
    assert (sign_flip(values, 3000) * 3000 <= LEVEL).all()


def test_holm_steps_down_and_leaves_out_what_was_not_tested():
    corrected = holm([0.01, math.nan, 0.04, 0.03, 0.005])
    assert corrected[[0, 2, 3, 4]].tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert math.isnan(corrected[1])
