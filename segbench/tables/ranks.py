"""Who comes first, how surely: networks by the number that all of a board met alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.metrics.ranks import kendall_tau
from segbench.tables.fields import DATA, Array
from segbench.tables.headlines import Number

Places = NDArray[np.int64]
RESAMPLES = 1000
_DIGITS = 9  # of a mean, or a sum: what differs beyond is in the order of adding
SEED = 0  # fixed: the same rows give the same report
_OTHERS = ("dice", "nsd", "sensitivity")  # metrics whose ranking is compared with Jaccard's
RANKING = ("jaccard", *_OTHERS)
"""The metrics that networks are ranked by."""


def rank_networks(numbers: Iterable[Number], cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """How surely each network comes at each place.

    Groups are resampled; networks are compared by what all of a board met, on the cases that all
    have. A board of one network, or over a single group, is not ranked.

    Args:
        numbers: from ``score_numbers``.
        cases: one row per case, that of the fields; metrics that nobody asked for may be missing.
        subject: the columns that name a model and its data.

    Returns:
        One row per data set, kind of number and network: its ``board``, its ``rank`` there by the
        shared ``value``, which equals have alike, the ``chance`` of that rank and of being
        ``first``, ``likely`` (the chances of all ranks), whether its place is ``settled``,
        ``by_case`` (its rank when cases are ranked first, equals at their mean rank, and then
        averaged), and for the whole board Kendall's ``tau`` between the two, and ``tau_dice``,
        ``tau_nsd``, ``tau_sensitivity`` between Jaccard and those.
    """
    values = {m: cases[m].to_numpy(np.float64) for m in RANKING if m in cases}
    groups, case = cases["group_id"].to_numpy(), cases["case_id"].factorize()[0]
    place = [*map(subject.index, [*DATA, "model"])]
    boards: dict[tuple[Any, ...], dict[bool, list[Number]]] = {}
    for number in numbers:
        of_board = (*(number.key[n] for n in place[:-1]), number.of, number.board)
        boards.setdefault(of_board, {True: [], False: []})[number.shared].append(number)
    found: list[dict[str, Any]] = []
    for key, board in boards.items():
        own = board[True]
        if own and len(set(groups[own[0].rows[-1]])) > 1:
            facts = dict(zip([*DATA, "of", "board"], key, strict=True))
            shared = case[own[0].rows[-1]]
            known = [
                float(n.heights(values["jaccard"])[np.isin(case[n.rows[-1]], shared)].mean())
                for n in board[False]
            ]
            models = [str(number.key[place[-1]]) for number in own]
            lines = _ranked(own, values, groups, known)
            found += [
                facts | {"model": model} | line for model, line in zip(models, lines, strict=True)
            ]
    return DataFrame(found)


LEVEL = 0.05
"""A first place is settled where it is lost in no larger share of the resamples."""


def _ranked(
    own: Sequence[Number], values: dict[str, Array], groups: NDArray[Any], known: Sequence[float]
) -> list[dict[str, Any]]:
    """What is told of each network of a board; ``known``: what is left by all that each met."""
    scores = np.stack([number.heights(values["jaccard"]) for number in own])
    group = np.unique(groups[own[0].rows[-1]], return_inverse=True)[1]
    means, chances = np.round(scores.mean(1), _DIGITS), _chances(scores, group)
    each = np.add(*_places(scores.T)).mean(0) / 2  # (M,), of equals within a case the mean rank
    ranks, by_case = _places(means)[0], _places(-each)[0]
    table = {
        "tau": kendall_tau(means, -np.round(each, _DIGITS)),
        **{f"tau_{m}": _tau(means, own, values.get(m)) for m in _OTHERS},
        "cases": scores.shape[1],
        "groups": int(group.max()) + 1,
    }
    sure = own[0].one_code and _agree(means, known)
    return [
        {
            "rank": int(ranks[n]),
            "value": float(means[n]),
            "chance": float(chances[n][int(ranks[n]) - 1]),
            "first": float(chances[n][0]),
            "likely": [round(float(chance), 4) for chance in chances[n]],
            "settled": bool(sure and ranks[n] == 1 and chances[n][0] >= 1 - LEVEL),
            "by_case": int(by_case[n]),
        }
        | table
        for n in range(len(own))
    ]


def _agree(means: Array, known: Sequence[float]) -> bool:
    """Whether the first by what all met is first by all that is known too.

    Where some network was attacked by more, its number may be known to be too high.
    """
    first = int(np.argmax(means))
    return all(value <= known[first] for value in known)


def _chances(scores: Array, groups: NDArray[np.int64]) -> Array:
    """Of each network (M,) the share of resamples in which it has each rank; (M, M).

    Equals have each of the ranks that they share alike.
    """
    count, models = int(groups.max()) + 1, len(scores)
    sums = np.zeros((count, models))
    np.add.at(sums, groups, scores.T)
    drawn = np.random.default_rng(SEED).multinomial(count, [1 / count] * count, RESAMPLES)
    first, last = _places(drawn @ sums)  # the cases' number is the same for all
    share, whose = 1 / (last - first + 1), np.broadcast_to(np.arange(models), first.shape)
    steps = np.zeros((models, models + 1))
    np.add.at(steps, (whose, first - 1), share)
    np.subtract.at(steps, (whose, last), share)
    return np.asarray(np.round(np.cumsum(steps, 1)[:, :-1] / RESAMPLES, _DIGITS))


def _places(scores: Array) -> tuple[Places, Places]:
    """The first and the last of the ranks that equals share along the last axis; 1 the highest."""
    scores = np.round(scores, _DIGITS)
    order = np.argsort(-scores, axis=-1, kind="stable")
    ordered, place = np.take_along_axis(scores, order, -1), np.arange(1, scores.shape[-1] + 1)
    begins = np.ones(scores.shape, bool)
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones(scores.shape, bool)
    ends[..., :-1] = begins[..., 1:]
    first, last = np.empty(scores.shape, np.int64), np.empty(scores.shape, np.int64)
    start = np.maximum.accumulate(np.where(begins, place, 0), -1)
    stop = np.minimum.accumulate(np.where(ends, place, place[-1])[..., ::-1], -1)[..., ::-1]
    np.put_along_axis(first, order, start, -1)
    np.put_along_axis(last, order, stop, -1)
    return first, last


def _tau(means: Array, own: Sequence[Number], values: Array | None) -> float:
    """Kendall's tau between means (M,) and those of another metric; NaN unless all have it."""
    if values is None:
        return math.nan
    scores = np.stack([number.heights(values) for number in own])
    if np.isnan(scores).any():
        return math.nan
    return kendall_tau(means, np.round(scores.mean(1), _DIGITS))
