"""How sure a quantile is: the interval between two of the values themselves.

How many values lie below the true quantile is binomial, so two order statistics bound it whatever
the distribution (David and Nagaraja, Order Statistics, 2003, section 7.1), or two positions between
them (Hutson, J. Appl. Stat. 26, 1999); bootstraps fail there.
Cases of one group are not independent: the number of values is divided by how much more the share
below the quantile varies between groups than it would between independent cases (Woodruff, J. Am.
Stat. Assoc. 47, 1952). Where nothing lies above the quantile, as where it is infinite, that is the
share before it: a share of all varies nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, ndtri, stdtrit

from segbench.metrics.stats import CONFIDENCE, mean_interval


def quantile_interval(
    values: ArrayLike, groups: Sequence[str] | NDArray[Any], level: float
) -> tuple[float, float, float]:
    """A quantile and the ends of its 95 % interval; NaN where there are fewer than two groups.

    An end is infinite where so few values reach so far that none bounds it.

    Args:
        values: (N,), one per case; may be infinite, not NaN.
        groups: (N,), the group of each case.
        level: 0.5 for the median.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    middle = float(np.quantile(ordered, level, method="inverted_cdf"))
    tail = (1 - CONFIDENCE) / 2
    worth, most = _worth(np.asarray(values, dtype=np.float64), middle, groups, tail)
    if math.isnan(worth):
        return middle, math.nan, math.nan
    first, last = (_position(most, level, chance) * (most + 1) for chance in (1 - tail, tail))
    low, high = _position(worth, level, 1 - tail), _position(worth, level, tail)
    # What lies between a number and infinity is not known: each end goes outwards.
    return (
        middle,
        _value(ordered, low, math.floor) if first >= 1 else 0.0,
        _value(ordered, high, math.ceil) if last <= most else math.inf,
    )


def _worth(
    values: NDArray[np.float64], middle: float, groups: Sequence[str] | NDArray[Any], tail: float
) -> tuple[float, float]:
    """As many independent values (N,) would be worth as much; NaN of fewer than two groups.

    Returns:
        As is estimated, with the estimate's own uncertainty; and the most it may be at that: if
        groups are alike within, one value each. What so many cannot bound is open.
    """
    below = values <= middle
    if below.all():
        below = values < middle
    share = mean_interval(below.astype(np.float64), groups)
    if share.groups < 2:
        return math.nan, math.nan
    count = float(len(values))
    if share.groups == count:
        return count, count
    independent = share.mean * (1 - share.mean) / count
    if independent == 0:  # all values are one: how alike those of a group are cannot be seen
        return share.effective, share.effective
    # How much groups vary is itself an estimate, hence t's quantile.
    normal, wide = ndtri(1 - tail), stdtrit(share.effective - 1, 1 - tail)
    excess = max(1.0, share.error**2 / independent)
    worth = float(max(1.0, count / excess * (normal / wide) ** 2))
    return worth, max(worth, share.effective)


def _position(count: float, level: float, chance: float) -> float:
    """The share of the values at which the one there lies below the quantile with that chance."""

    from scipy.optimize import brentq  # takes a while to come, and few tables have quantiles

    def excess(position: float) -> float:
        return float(betainc(position, count + 1 - position, level)) - chance

    least, most = 1e-9, count + 1 - 1e-9
    if excess(least) <= 0 or excess(most) >= 0:
        return 0.0 if excess(least) <= 0 else 1.0
    return float(brentq(excess, least, most)) / (count + 1)


def _value(ordered: NDArray[np.float64], share: float, outwards: Callable[[float], int]) -> float:
    """The value at a share of N + 1 positions; the ends of the line beyond the first and last."""
    position = share * (len(ordered) + 1)
    if position < 1:
        return 0.0
    if position > len(ordered):
        return math.inf
    before = math.floor(position)
    low, high = float(ordered[before - 1]), float(ordered[min(before, len(ordered) - 1)])
    if math.isinf(high):
        return float(ordered[outwards(position) - 1])
    return low + (position - before) * (high - low)
