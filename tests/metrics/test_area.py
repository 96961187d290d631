"""The mean height of a curve is the integral of straight lines over the axis."""

from __future__ import annotations

import numpy as np
import pytest

from segbench.metrics.area import mean_height


def test_of_a_line_it_is_its_middle_however_it_is_cut():
    axis = [0.0, 0.1, 0.25, 0.7, 1.3]
    assert mean_height([2 - 3 * x for x in axis], axis) == pytest.approx(2 - 3 * 1.3 / 2)


def test_of_many_curves_it_is_that_of_scipy():
    from scipy.integrate import trapezoid

    axis = np.cumsum(np.random.default_rng(0).uniform(0.1, 1, 9))
    heights = np.random.default_rng(1).uniform(size=(3, 5, 9))
    expected = trapezoid(heights, axis, axis=-1) / (axis[-1] - axis[0])
    np.testing.assert_allclose(mean_height(heights, axis), expected, rtol=1e-14)
