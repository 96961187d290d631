"""What the numbers of every curve say at each of its budgets, for all of them at once.

Thousands of points are a few arrays; only the few that are said to be stuck are put into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.api.objective import WITHOUT_GRADIENTS
from segbench.metrics.numbering import dense, first_of, number_of
from segbench.tables.texts import stack
from segbench.tables.worst import SELECTING

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
THREAT = ["dataset_fingerprint", "split", "budget_kind", "where", "budget"]
"""What networks must share for one to be ahead of the other."""

_FOUND = ["model", "dataset", "split", "budget_kind", "where", "budget"]
MOST = 0.5
"""Of the steps on a case: where as many met no gradient, the case was hardly attacked."""


@dataclass(frozen=True, eq=False)
class Signs:
    """Of every point (curve and budget), in that order; a mean is NaN where it is of nothing.

    Attributes:
        curve: the number of its curve (P,).
        budget: (P,).
        row: the place (P,) of one of its rows among the cases.
        of: the point (N,) of each of the cases.
        rise: how much more it leaves than that smaller budget of its curve beside which this is
            most, over their common cases; of images rounded to their file's levels nothing, whose
            balls do not hold each other (P,).
        origin: the point of that budget; -1 of none (P,).
        behind: how much less others leave, over the cases that others have met (P,).
        zero: the share of steps that met a zero gradient, of cases that have something left; of
            others none did, since where nothing is left to do a gradient may well be zero (P,).
        blind: how much of what it leaves is of cases of which most steps met a zero gradient (P,).
        searched: the share of cases whose worst image was found without gradients (P,).
        late: what the last half of the steps gained, of cases that have something left and say so
            (P,).
        left: what is left of those (P,).
        left_of_all: what is left of all that say so (P,).
        late_of_all: what the last half gained of those (P,).
    """

    curve: Codes
    budget: Array
    row: Codes
    of: Codes
    rise: Array
    origin: Codes
    behind: Array
    zero: Array
    blind: Array
    searched: Array
    late: Array
    left: Array
    left_of_all: Array
    late_of_all: Array

    def largest(self) -> NDArray[np.bool_]:
        """Whether each point is the last of its curve (P,)."""
        return np.append(self.curve[1:] != self.curve[:-1], True)[: len(self.curve)]


def find_signs(cases: DataFrame, keys: Sequence[str], lowest: DataFrame) -> Signs:
    """The numbers of every curve.

    Args:
        cases: one row per case of attacks with a norm; ``case_id`` is a number, ``where`` and
            whether images were ``rounded`` are there.
        keys: the columns that a curve is known by.
        lowest: the lowest that anything found, in the same columns.
    """
    point = number_of(cases, [*keys, "budget"])
    row = first_of(point)
    curve = number_of(cases.iloc[row], keys)
    count = len(row)
    case = cases["case_id"].to_numpy(np.int64)
    score = cases[SELECTING].to_numpy(np.float64)
    late = cases["late_gain"].to_numpy(np.float64)
    rise, origin = _rises(
        np.where(cases["rounded"].to_numpy(bool), np.nan, score), point, case, curve
    )
    noted = np.where(np.isnan(late), np.nan, score)
    return Signs(
        curve=curve,
        budget=cases["budget"].to_numpy(np.float64)[row],
        row=row,
        of=point,
        rise=rise,
        origin=origin,
        behind=_mean(_behind(cases, lowest), point, count),
        zero=_mean(np.where(score > 0, cases["zero_gradients"], 0.0), point, count),
        blind=_mean(blind_scores(cases), point, count),
        searched=_mean(np.where(cases["member"].isin(WITHOUT_GRADIENTS), 1.0, 0.0), point, count),
        late=_mean(np.where(score > 0, late, np.nan), point, count),
        left=_mean(np.where(score > 0, noted, np.nan), point, count),
        left_of_all=_mean(noted, point, count),
        late_of_all=_mean(late, point, count),
    )


def _rises(score: Array, point: Codes, case: Codes, curve: Codes) -> tuple[Array, Codes]:
    """Of each point (P,) the largest rise from a smaller budget of its curve, and from which."""
    count = len(curve)
    before = np.append(-1, np.where(curve[1:] == curve[:-1], np.arange(count - 1), -1))[:count]
    rise, origin, smaller = np.full(count, np.nan), np.full(count, -1), before
    while (smaller >= 0).any():
        there = smaller[point] >= 0
        other = _matched(score, point, case, smaller[point[there]], case[there])
        own = _mean(score[there] - other, point[there], count)
        origin = np.where(own > np.where(np.isnan(rise), -np.inf, rise), smaller, origin)
        rise = np.fmax(rise, own)
        smaller = np.where(smaller >= 0, before[smaller], -1)
    return rise, origin


def blind_scores(cases: DataFrame) -> Array:
    """Each case's score where most of its attack's steps met a zero gradient, of others 0 (N,)."""
    score = cases[SELECTING].to_numpy(np.float64)
    hardly = cases["zero_gradients"].to_numpy(np.float64) > MOST
    return np.asarray(np.where(hardly | np.isnan(score), score, 0.0))


def _behind(cases: DataFrame, lowest: DataFrame) -> Array:
    """For each case how much less others left of it; NaN where of several none other met it."""
    attack = number_of(cases, [*_FOUND, "attack"])
    threat = number_of(cases, _FOUND)
    attacks = np.bincount(threat[first_of(attack)])[threat]
    case = number_of(cases.assign(threat=threat), ["threat", "case_id"])
    alone = (np.bincount(case)[case] == 1) & (attacks > 1)
    behind = cases[SELECTING].to_numpy(np.float64) - _lowest(cases, lowest)
    return np.where(alone, np.nan, behind)


def _lowest(cases: DataFrame, lowest: DataFrame) -> Array:
    """For each case what anything has left of it under the same threat, NaN where nothing did."""
    lowest = lowest.drop_duplicates([*_FOUND, "case_id"])
    if lowest.empty:
        return np.full(len(cases), np.nan)
    both = stack([cases[_FOUND], lowest[_FOUND]])
    number = number_of(both, _FOUND)
    own, found = number[: len(cases)], number[len(cases) :]
    values = lowest[SELECTING].to_numpy(np.float64)
    case = lowest["case_id"].to_numpy(np.int64)
    return _matched(values, found, case, own, cases["case_id"].to_numpy(np.int64))


def _mean(values: Array, point: Codes, count: int) -> Array:
    """Of each point the mean of its values, NaN left out."""
    there = ~np.isnan(values)
    total = np.bincount(point[there], weights=values[there], minlength=count)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.bincount(point[there], minlength=count))


def _matched(values: Array, group: Codes, case: Codes, wanted: Codes, of: Codes) -> Array:
    """The values of those groups' cases, NaN for what is not there, such as any of group -1."""
    if not len(values):
        return np.full(len(wanted), np.nan)
    size = int(max(case.max(), of.max(initial=0))) + 1
    groups = int(max(group.max(), wanted.max(initial=0))) + 1
    both = np.concatenate([group * size + case, np.where(wanted < 0, groups, wanted) * size + of])
    number, found = dense(both, (groups + 1) * size)
    known = np.full(len(found), np.nan)
    known[number[: len(values)][::-1]] = values[::-1]  # of several the first counts
    return known[number[len(values) :]]
