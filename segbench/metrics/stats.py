"""How sure a mean is: an interval over groups such as patients, and when not to trust it.

Slices of one volume are not independent, so what is counted is groups, never cases. A mean over
cases is then a ratio of two sums over groups; its standard error is the jackknife's, that leaves
out one group at a time (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11;
for clusters Bell and McCaffrey, Survey Methodology 28, 2002), with t's quantile at the degrees of
freedom of as many equal groups as carry the same weight (Kish, Survey Sampling, 1965). The interval
is taken on a scale on which the score has no ends (logit, or log for a distance), so it never
leaves the score's range, and leans to where the values lie by Hall's correction for skewness (J. R.
Stat. Soc. B 54, 1992): in full for differences, a fifth of it where the scale has done the rest.

It was chosen by simulation, ``segbench coverage``: the percentile bootstrap covers far less than it
claims with few groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtr, stdtrit

from segbench.metrics.numbering import dense

CONFIDENCE = 0.95
FEW = 12
"""Effective groups below which an interval is marked."""

TELLING_GROUPS = 40
"""Effective groups below which a failure of one in twelve may be missing: with 3 % at so many."""

FEW_GROUPS, THIN_TAIL, UNSEEN_TAIL = "few-groups", "thin-tail", "unseen-tail"
"""Marks of an interval: too few groups; a few of them make up nearly all of its spread; or it is as
it should be, unless there are rare failures of which so small a sample need not show a single one.
"""

Range = Literal["unit", "signed", "distance"]
"""Of a score: [0, 1]; of a difference of two: [-1, 1]; of a distance: [0, infinity)."""

_HALL = {"unit": 0.2, "signed": 1.0, "distance": 0.2}  # how much of the correction, by simulation
_TAIL = (
    3.0  # effective groups for each square of their skewness; Cochran asks 25 of a plain interval
)
_ROUNDING = 1e-9
_POWER = 0.8

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and what it rests on.

    ``low`` and ``high`` are NaN where there are fewer than two groups: nothing can be said about
    patients from one patient, however many slices it has.

    Attributes:
        doubt: why the interval may cover less than it claims, ``FEW_GROUPS``, ``THIN_TAIL`` or
            ``UNSEEN_TAIL``; empty if nothing says so.
        error: standard error of the mean.
        effective: as many equal groups would be worth as much.
    """

    mean: float
    low: float
    high: float
    cases: int
    groups: int
    doubt: str = ""
    error: float = math.nan
    effective: float = math.nan


@dataclass(frozen=True, eq=False)
class Intervals:
    """Many at once, see ``Interval``: each an array (P,), NaN and 0 where a point has no value."""

    mean: Array
    low: Array
    high: Array
    cases: NDArray[np.int64]
    groups: NDArray[np.int64]
    doubt: NDArray[np.str_]
    error: Array
    effective: Array

    def one(self, place: int) -> Interval:
        """That of a single point."""
        return Interval(
            float(self.mean[place]), float(self.low[place]), float(self.high[place]),
            int(self.cases[place]), int(self.groups[place]), str(self.doubt[place]),
            float(self.error[place]), float(self.effective[place]),
        )  # fmt: skip


def mean_interval(
    values: ArrayLike, groups: Sequence[str] | NDArray[Any], *, of: Range = "unit"
) -> Interval:
    """The mean over cases and its interval over groups.

    Args:
        values: (N,), one per case; NaN (a class that the label lacks) is left out.
        groups: (N,), the group of each case.
        of: what ``values`` are.
    """
    cases, names = np.asarray(values, dtype=np.float64), np.asarray(groups)  # (N,)
    if cases.shape != names.shape or cases.ndim != 1:
        raise ValueError(f"values {cases.shape} and groups {names.shape} must be (N,) alike")
    _, member = np.unique(names, return_inverse=True)
    return mean_intervals(cases, np.zeros(len(cases), np.int64), member, 1, of=of).one(0)


def mean_intervals(
    values: Array,
    points: NDArray[np.int64],
    groups: NDArray[np.int64],
    count: int,
    *,
    of: Range = "unit",
) -> Intervals:
    """Means of ``count`` points at once, with their intervals over groups.

    Args:
        values: (N,); NaN is left out.
        points: (N,), from 0 up to ``count``, whose value it is.
        groups: (N,), numbers from 0 up.
        count: P.
        of: what ``values`` are.
    """
    return Grouped(points, groups, count).intervals(values, of)


class Grouped:
    """Which point and group each of many values is of, found once for all their metrics.

    Args:
        points, groups, count: see ``mean_intervals``.
    """

    def __init__(self, points: NDArray[np.int64], groups: NDArray[np.int64], count: int) -> None:
        self._points, self._groups, self._count = points, groups, count
        width = int(groups.max()) + 1 if len(groups) else 1
        self._member, pairs = dense(points * width + groups, max(1, count) * width)
        self._point = pairs // width  # (Q,), the point of each pair of a point and a group
        self._sizes = np.bincount(self._member, minlength=len(pairs)).astype(np.float64)
        self._number = np.bincount(self._point, minlength=count)  # groups
        self._cases = self._total(self._sizes)
        self._share = self._sizes / self._cases[self._point]
        with np.errstate(divide="ignore"):
            self._effective = 1 / self._total(self._share**2)

    def intervals(self, values: Array, of: Range = "unit") -> Intervals:
        """See ``mean_intervals``."""
        defined = ~np.isnan(values)
        if defined.all():
            return self._of_all(values, of)
        own = Grouped(self._points[defined], self._groups[defined], self._count)
        return own._of_all(values[defined], of)

    def _of_all(self, values: Array, of: Range) -> Intervals:
        """Those of values (N,), none of which is missing."""
        sums = np.bincount(self._member, weights=values, minlength=len(self._point))
        number, share, effective = self._number, self._share, self._effective
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self._total(sums.astype(np.float64)) / self._cases
            pull = share * (sums / self._sizes - mean[self._point])  # a group adds that to the mean
            error = np.sqrt((number - 1) / number * self._total((pull / (1 - share)) ** 2))
            # skewness over the root of the groups
            lean = self._total(pull**3) / self._total(pull**2) ** 1.5
            low, high = _bounds(mean, error, effective, _HALL[of] * lean, of)
        flat = ~(error > _ROUNDING)  # all groups alike
        low, high = np.where(flat, mean, low), np.where(flat, mean, high)
        single = number < 2
        low[single] = high[single] = error[single] = math.nan
        doubt = np.where(effective < TELLING_GROUPS - 0.5, UNSEEN_TAIL, "")
        doubt = np.where(~flat & (effective < _TAIL * number * lean**2), THIN_TAIL, doubt)
        doubt = np.where(effective < FEW - 0.5, FEW_GROUPS, doubt)
        doubt[single] = ""
        cases = self._cases.astype(np.int64)
        return Intervals(mean, low, high, cases, number, doubt, error, effective)

    def _total(self, of_pairs: Array) -> Array:
        """Added up over the groups of each point (P,)."""
        return np.bincount(self._point, weights=of_pairs, minlength=self._count).astype(np.float64)


def paired_difference(
    first: ArrayLike, second: ArrayLike, groups: Sequence[str] | NDArray[Any]
) -> Interval:
    """The mean of ``first - second`` over the same cases, and its interval over groups.

    Pairing removes what makes a case hard for both, so this interval is usually far narrower
    than the two means' intervals suggest.

    Args:
        first: (N,), one score in [0, 1] per case; a case with NaN on either side is left out.
        second: (N,), the same cases in the same order.
        groups: (N,), the group of each case.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"first {one.shape} and second {other.shape} must hold the same cases")
    return mean_interval(one - other, groups, of="signed")


def chances_of_drop(differences: Intervals) -> Array:
    """One-sided p-values (P,) of t: how often a mean as low is seen where nothing has fallen.

    1 where a single group, or groups that are all alike, can say nothing; 0 for alike and below 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = differences.mean / differences.error
        chance = stdtr(differences.effective - 1, ratio)
    certain = (differences.groups > 1) & (differences.mean < -_ROUNDING)
    spread = differences.error > _ROUNDING
    return np.where(spread, chance, np.where(certain, 0.0, 1.0))


def groups_needed(
    error: ArrayLike,
    groups: ArrayLike,
    effective: ArrayLike,
    difference: float,
    level: float = 1 - CONFIDENCE,
) -> NDArray[np.int64]:
    """How many groups as these a two-sided test needs (P,) to tell a difference apart from none.

    With 80 % power, by t: the fewest N, two at least, of which the difference is as many standard
    errors as t's quantiles of both add up to.

    Args:
        error: (P,), standard errors of means over groups; 0 or NaN, which asks for two, where no
            spread of groups is known.
        groups, effective: (P,), see ``Interval``.
        level: of the test.
    """
    errors, number = np.asarray(error, dtype=np.float64), np.asarray(groups, dtype=np.float64)
    spread = errors > _ROUNDING
    variance = np.where(spread, errors, 0) ** 2 * number  # of a group
    worth = np.where(spread, np.asarray(effective, dtype=np.float64) / number, 1.0)

    def enough(count: Array) -> NDArray[np.bool_]:
        free = np.maximum(1.0, count * worth - 1)
        reach = stdtrit(free, 1 - level / 2) + stdtrit(free, _POWER)
        return np.asarray(count * difference**2 >= variance * reach**2)

    least, most = np.ones(len(errors)), np.full(len(errors), 2.0)
    while not (done := enough(most)).all():
        least, most = np.where(done, least, most), np.where(done, most, 2 * most)
    while (most - least > 1).any():
        middle = np.ceil((least + most) / 2)
        done = enough(middle)
        most, least = np.where(done, middle, most), np.where(done, least, middle)
    return most.astype(np.int64)


def _bounds(
    mean: Array, error: Array, effective: Array, lean: Array, of: Range
) -> tuple[Array, Array]:
    """Ends of the interval, from a scale without ends and back."""
    reach = stdtrit(effective - 1, (1 + CONFIDENCE) / 2)
    below, above = _hall(reach, lean) * error, -_hall(-reach, lean) * error
    if of == "distance":
        most = 700 * mean
        return mean / np.exp(np.minimum(below, most) / mean), mean * np.exp(
            np.minimum(above, most) / mean
        )
    if of == "signed":
        return np.maximum(mean - below, -1), np.minimum(mean + above, 1)
    slope = mean * (1 - mean)
    return expit(logit(mean) - below / slope), expit(logit(mean) + above / slope)


def _hall(quantile: Array, lean: Array) -> Array:
    """The quantile of a mean of skewed values, by the inverse of Hall's cubic."""
    lean = np.where(np.abs(lean) < _ROUNDING, _ROUNDING, lean)
    return np.asarray(3 / lean * (np.cbrt(1 + lean * (quantile - lean / 6)) - 1))
