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

RESAMPLES = 1000
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
        shared ``value``, the ``chance`` of that rank and of being ``first``, ``likely`` (the
        chances of all ranks), whether its place is ``settled``, ``by_case`` (its rank when cases
        are ranked first and then averaged), and for the whole board Kendall's ``tau`` between the
        two, and ``tau_dice``, ``tau_nsd``, ``tau_sensitivity`` between Jaccard and those.
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
    means, chances = scores.mean(1), _chances(scores, group)
    ranks, each = _ranks(means), _ranks(scores.T).T
    by_case = _ranks(-each.mean(1))
    table = {
        "tau": kendall_tau(means, (-each).mean(1)),
        **{f"tau_{m}": _tau(means, own, values.get(m)) for m in _OTHERS},
        "cases": scores.shape[1],
        "groups": int(group.max()) + 1,
    }
    agreed = _agree(means, known)
    return [
        {
            "rank": int(ranks[n]),
            "value": float(means[n]),
            "chance": float(chances[n][int(ranks[n]) - 1]),
            "first": float(chances[n][0]),
            "likely": [round(float(chance), 4) for chance in chances[n]],
            "settled": bool(agreed and ranks[n] == 1 and chances[n][0] >= 1 - LEVEL),
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

    Equals have each other's ranks in half of them.
    """
    count = int(groups.max()) + 1
    sums = np.zeros((count, len(scores)))
    np.add.at(sums, groups, scores.T)
    drawn = np.random.default_rng(SEED).multinomial(count, [1 / count] * count, RESAMPLES)
    totals = drawn @ sums  # the cases' number is the same for all
    places = np.arange(1, len(scores) + 1)
    ranks = np.stack([_ranks(totals), _ranks(totals[:, ::-1])[:, ::-1]])
    return np.asarray((ranks[..., None] == places).mean((0, 1)))


def _ranks(scores: Array) -> Array:
    """1 for the highest along the last axis; of equals the earlier is the better."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, np.arange(1, scores.shape[-1] + 1.0), axis=-1)
    return ranks


def _tau(means: Array, own: Sequence[Number], values: Array | None) -> float:
    """Kendall's tau between means (M,) and those of another metric; NaN unless all have it."""
    if values is None:
        return math.nan
    scores = np.stack([number.heights(values) for number in own])
    return math.nan if np.isnan(scores).any() else kendall_tau(means, scores.mean(1))
