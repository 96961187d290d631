"""How sure a quantile is: the interval between two of the values themselves.

How many values lie below the true quantile is binomial, so two order statistics bound it whatever
the distribution (David and Nagaraja, Order Statistics, 2003, section 7.1), or two positions between
them (Hutson, J. Appl. Stat. 26, 1999); bootstraps fail there.
Cases of one group are not independent: the number of values is divided by how much more the share
below the quantile varies between groups than it would between independent cases (Woodruff, J. Am.
Stat. Assoc. 47, 1952). Of the lower end that is the share below the quantile itself, of the upper
end that up to it. Where many values are one, as where the quantile is infinite, such a share lies
far from the level, and how it varies tells nothing of the values between: they count as whole
groups that happen to be missing.
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
    given = np.asarray(values, dtype=np.float64)
    ordered = np.sort(given)
    middle = float(np.quantile(ordered, level, method="inverted_cdf"))
    tail = (1 - CONFIDENCE) / 2
    (low, least), (high, most) = (
        _worth(below, groups, level, tail) for below in (given < middle, given <= middle)
    )
    if math.isnan(low):
        return middle, math.nan, math.nan
    first = _position(least, level, 1 - tail) * (least + 1)
    last = _position(most, level, tail) * (most + 1)
    # What lies between a number and infinity is not known: each end goes outwards.
    return (
        middle,
        _value(ordered, _position(low, level, 1 - tail), math.floor) if first >= 1 else 0.0,
        _value(ordered, _position(high, level, tail), math.ceil) if last <= most else math.inf,
    )


def _worth(
    below: NDArray[np.bool_], groups: Sequence[str] | NDArray[Any], level: float, tail: float
) -> tuple[float, float]:
    """As many independent values would be worth as much, for one end; NaN of fewer than two groups.

    Args:
        below: (N,), which values lie below the quantile; of the upper end, or are it.

    Returns:
        As is estimated, with the estimate's own uncertainty; and the most it may be at that: if
        groups are alike within, one value each, and no more where the share is too far from the
        level to tell how alike they are there. What so many cannot bound is open.
    """
    share = mean_interval(below.astype(np.float64), groups)
    if share.groups < 2:
        return math.nan, math.nan
    count = float(len(below))
    if share.groups == count:
        return count, count
    # How much groups vary is itself an estimate, hence t's quantile.
    normal, wide = ndtri(1 - tail), stdtrit(share.effective - 1, 1 - tail)
    independent = share.mean * (1 - share.mean) / count
    excess = max(1.0, share.error**2 / independent) if independent else 1.0
    away = max(0.0, abs(share.mean - level) - 1 / count)  # without ties none
    # Where whole groups make up the rest, this part of the variance is that of groups alike within.
    unseen = away / (level if share.mean < level else 1 - level)
    worth = max(1.0, 1 / (excess * (wide / normal) ** 2 / count + unseen / share.effective))
    near = away <= normal * share.error
    return float(worth), float(max(worth, share.effective) if near else share.effective)


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
