"""The area under a curve of straight lines between its points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_height(heights: ArrayLike, axis: Sequence[float]) -> NDArray[np.float64]:
    """The area of trapezes over the axis, divided by the axis's length.

    Args:
        heights: (…, P), at the points of the axis.
        axis: (P,), ascending, two or more.

    Returns:
        (…,).
    """
    points, places = np.asarray(heights, np.float64), np.asarray(axis, np.float64)
    areas = np.diff(places) * (points[..., 1:] + points[..., :-1]) / 2
    return np.asarray(areas.sum(-1) / (places[-1] - places[0]))
