"""How sure a mean is: the group bootstrap.

Slices of one volume are not independent, so what is resampled is groups (patients), never cases.
A mean over cases is then a ratio of two sums over groups, sum of values over number of cases, and
its interval is the percentile bootstrap of that ratio (Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, chapter 13; Field and Welsh, J. R. Stat. Soc. B 69, 2007, for clusters).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0  # fixed: the same rows give the same report
_BLOCK = 500  # resamples at work at once; bounds memory at 4 kB per group, 2 kB kept


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and what it rests on.

    ``low`` and ``high`` are NaN where there are fewer than two groups: nothing can be said about
    patients from one patient, however many slices it has.
    """

    mean: float
    low: float
    high: float
    cases: int
    groups: int


def mean_interval(
    values: ArrayLike, groups: Sequence[str] | NDArray[Any], *, bounds: bool = True
) -> Interval:
    """The mean over cases and its interval over groups.

    Args:
        values: (N,), one per case; NaN (a class that the label lacks) is left out.
        groups: (N,), the group of each case.
        bounds: whether the interval is wanted, which costs a hundred times what the mean does;
            without it ``low`` and ``high`` are NaN.
    """
    cases = np.asarray(values, dtype=np.float64)  # (N,)
    names = np.asarray(groups)  # (N,)
    if cases.shape != names.shape or cases.ndim != 1:
        raise ValueError(f"values {cases.shape} and groups {names.shape} must be (N,) alike")
    defined = ~np.isnan(cases)
    cases, names = cases[defined], names[defined]
    if not len(cases):
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    unique, member = np.unique(names, return_inverse=True)
    if not bounds:
        return Interval(float(cases.mean()), math.nan, math.nan, len(cases), len(unique))
    sums = np.bincount(member, weights=cases).astype(np.float64)  # (G,)
    counts = np.bincount(member).astype(np.float64)  # (G,)
    low, high = _percentiles(sums, counts) if len(unique) > 1 else (math.nan, math.nan)
    return Interval(float(cases.mean()), low, high, len(cases), len(unique))


def paired_difference(
    first: ArrayLike, second: ArrayLike, groups: Sequence[str] | NDArray[Any]
) -> Interval:
    """The mean of ``first - second`` over the same cases, and its interval over groups.

    Pairing removes what makes a case hard for both, so this interval is usually far narrower
    than the two means' intervals suggest.

    Args:
        first: (N,), one per case; a case with NaN on either side is left out.
        second: (N,), the same cases in the same order.
        groups: (N,), the group of each case.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"first {one.shape} and second {other.shape} must hold the same cases")
    return mean_interval(one - other, groups)


def _percentiles(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> tuple[float, float]:
    """Bounds of sum(sums) / sum(counts) over resampled groups; both (G,) with G > 1."""
    totals = np.stack([sums, counts], axis=1)  # (G, 2)
    resampled = [block.astype(np.float64) @ totals for block in _resamples(len(sums))]
    ratios = np.concatenate([pair[:, 0] / pair[:, 1] for pair in resampled])  # (RESAMPLES,)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _resamples(groups: int) -> tuple[NDArray[np.uint8], ...]:
    """How often each of G groups is in each resample: blocks (_BLOCK, G), RESAMPLES rows in all.

    The draw depends on G alone, so it serves all intervals over as many groups, and two cells of
    the same cases meet the same resamples.
    """
    generator = np.random.default_rng(SEED)
    blocks = []
    for _ in range(RESAMPLES // _BLOCK):
        drawn = generator.integers(0, groups, (_BLOCK, groups))
        flat = (drawn + groups * np.arange(_BLOCK)[:, None]).ravel()
        counts = np.bincount(flat, minlength=_BLOCK * groups).reshape(_BLOCK, groups)
        blocks.append(counts.astype(np.uint8))
    return tuple(blocks)
