"""How alike two orders are: Kendall's tau."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def kendall_tau(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Tau-b (Kendall, Biometrika 33, 1945) of two scores (M,) each; in [-1, 1].

    NaN where one of them tells nothing apart. By all pairs, of a table's few networks; SciPy's is
    for many values, and takes half a second to come.
    """
    one, other = (np.sign(np.subtract.outer(scores, scores)) for scores in (first, second))
    told = math.sqrt(np.abs(one).sum()) * math.sqrt(np.abs(other).sum())
    return max(-1.0, min(1.0, float((one * other).sum()) / told)) if told else math.nan
