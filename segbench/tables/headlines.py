"""One number a network for attacks, and one for corruptions: by all that it met, and side by side.

Attacks: the mean height (AUC) of the lowest curve that is known, of Jaccard. Corruptions: a case's
lowest Jaccard over every corruption and severity, mean over cases. Either is the lowest of what
each case has met, so an upper bound, and the lower the more was tried. So beside the lowest known
stands the number by what all networks of a board met, and only by that are networks ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pandas import DataFrame, Series

from segbench.api.marks import distrusted
from segbench.metrics.area import mean_height
from segbench.metrics.stats import mean_interval
from segbench.plugins.naming import CLEAN, eps_names
from segbench.tables.fields import SEVERITY, Array, Codes, Field, Flags, Lowest
from segbench.tables.texts import budgets_of, words
from segbench.tables.worst import KINDS, name_worst

_MEASURED = ["low", "high", "cases", "groups", "doubt"]


@dataclass(frozen=True, eq=False)
class Number:
    """What one number of a network is the mean of.

    Attributes:
        of: the kind of number.
        key: the network, by the columns of the subject.
        board: from 1 up, of a data set and kind: networks of one share something that they met.
        shared: whether by what all networks of the board met, on the cases that all have; else by
            all that this one met.
        alike: whether all networks of the board met the same.
        one_code: whether no attack that all of them met is of unlike code.
        met: the attacks that it is made of, each with its parameters.
        even: whether all of these met every case at every budget.
        axis: the budgets of its curve, (P,), 0 for the clean images; of corruptions the largest.
        budgets: those that it is made of, ascending.
        rows: the places (P, C) of its rows among the cases.
    """

    of: str
    key: tuple[Any, ...]
    board: int
    shared: bool
    alike: bool
    one_code: bool
    met: Sequence[tuple[str, str]]
    even: bool
    axis: Sequence[float]
    budgets: Sequence[float]
    rows: Codes

    @cached_property
    def attack(self) -> str:
        """What it is made of, in as few words as a curve has."""
        if self.of == SEVERITY:
            return name_worst(len(self.met), self.even, "corruptions")
        return self.met[0][0] if len(self.met) == 1 else name_worst(len(self.met), self.even)

    def heights(self, values: Array) -> Array:
        """Each case's (C,) mean height over the curve, of one value a row; trapezes."""
        points = values[self.rows].T  # (C, P)
        begun = len(self.axis) > 1 and self.axis[0] == 0
        return mean_height(points, self.axis) if begun else np.asarray(points.mean(1))


def score_numbers(fields: Iterable[Field]) -> Iterator[Number]:
    """Every network's number by all that it met, and by what its board met.

    Both are at the same budgets: those that the networks of the board share. A network that shares
    nothing with another has its own.
    """
    for field in fields:
        for board, members in enumerate(field.boards, 1):
            both = field.lowest(members)
            alike = bool(((field.rows[members] >= 0) == both.shared).all())
            one_code = field.is_one_code(members, both.shared)
            wanted: Sequence[float] = ()
            if len(members) > 1:
                wanted = both.budgets[both.points()[0]].tolist()
                for place in range(len(members)):
                    yield _number(
                        field, members[place], _Side(board, True, alike, one_code), both, place
                    )
            for member in members:
                own = field.lowest([member])
                yield _number(field, member, _Side(board, False, alike, one_code), own, 0, wanted)


class _Side(NamedTuple):
    """Of which board a number is, and which of its two; see ``Number``."""

    board: int
    shared: bool
    alike: bool
    one_code: bool


def _number(
    field: Field,
    member: int,
    side: _Side,
    lowest: Lowest,
    place: int,
    wanted: Sequence[float] = (),
) -> Number:
    kept, cases = lowest.points(wanted)
    axis = [] if field.of == CLEAN else lowest.budgets[kept].tolist()
    met, budgets, even = _met(field, lowest, cases, max(axis, default=0.0))
    rows, begun, _ = field.counted(lowest, kept, cases, place)
    if field.of == SEVERITY:
        axis = budgets[-1:]  # each case's lowest is over all of them
    else:
        budgets = axis
    axis = [0.0, *axis] if begun else axis
    key = field.networks[member]
    return Number(field.of, key, *side, met, even, axis or [0.0], budgets, rows)


def _met(
    field: Field, lowest: Lowest, cases: Flags, largest: float
) -> tuple[list[tuple[str, str]], list[float], bool]:
    """The attacks of these cases up to a budget, and at which; and whether all met all of both."""
    there = lowest.shared[:, cases] & (lowest.at <= largest)[:, None]
    used = there.any(1)
    lines = field.met[used]
    attacks = lines.groupby(["attack", "attack_params"], observed=True, sort=True).size()
    every = bool(there[used].all()) and bool((attacks == lines["budget"].nunique()).all())
    names = [(str(attack), str(params)) for attack, params in attacks.index]
    return names, sorted(set(lines["budget"].tolist())), every


def headlines(numbers: Iterable[Number], cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per network, data set and kind of number.

    Args:
        numbers: of these, one for each.
        cases: one row per case, that of the fields.
        subject: the columns that name a model and its data.

    Returns:
        ``subject``, ``of`` (``clean``, a norm, or ``severity``), ``board`` and whether all networks
        of it met the same (``alike``) and no attack by unlike code (``one_code``), ``attack`` and
        the names of all ``attacks`` that the number is made of, the budgets (``eps``) at which
        these were met and the ``largest`` of them, ``value`` with ``low`` and ``high``, ``cases``,
        ``groups``, ``doubt`` of the interval, and the ``marks`` that speak against the images that
        it is made of.
    """
    names = eps_names(budgets_of(cases))
    scores = cases["jaccard"].to_numpy(np.float64)
    groups = cases["group_id"].to_numpy()
    lines = []
    for number in numbers:
        found = mean_interval(number.heights(scores), groups[number.rows[-1]])
        facts = dict(zip(subject, number.key, strict=True)) | _named(number, names)
        measured = {name: getattr(found, name) for name in _MEASURED}
        facts |= {"value": found.mean} | measured
        lines.append(facts | {"marks": _marks(number, cases["marks"])})
    facts_of = ["of", "board", "alike", "one_code", "attack", "attacks", "eps", "largest"]
    return DataFrame(lines, columns=[*subject, *facts_of, "value", *_MEASURED, "marks"])


def _named(number: Number, names: Mapping[tuple[str, float], str]) -> dict[str, Any]:
    return {
        "of": number.of,
        "board": number.board,
        "alike": number.alike,
        "one_code": number.one_code,
        "attack": number.attack,
        "attacks": ", ".join(name for name, _ in number.met),
        "eps": _written([names[number.of, at] for at in number.budgets]),
        "largest": number.axis[-1],
    }


def _written(names: Sequence[str]) -> str:
    """``1/255 2/255``; of severities, each of which says what it is, ``severity 1 2``."""
    severe = f"{SEVERITY} "
    bare = " ".join(name.removeprefix(severe) for name in names)
    return severe + bare if names and names[0].startswith(severe) else bare


def _marks(number: Number, marks: Series[str]) -> str:
    """What speaks against the images; against clean ones only where there are no others."""
    attacked = number.rows[len(number.axis) > 1 and number.axis[0] == 0 :]
    return words(distrusted(str(own)) for own in marks.iloc[attacked.ravel()].unique())


def standings(numbers: Iterable[Number], cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """The points of the curves whose heights are the numbers of norms.

    Returns:
        ``subject``, ``of``, ``board``, whether ``shared``, ``budget`` and its name ``eps``, the
        ``mean`` of Jaccard with ``low`` and ``high``, ``cases``, ``groups``, ``doubt``.
    """
    names = eps_names(budgets_of(cases))
    scores = cases["jaccard"].to_numpy(np.float64)
    groups = cases["group_id"].to_numpy()
    lines = []
    for number in numbers:
        if number.of not in KINDS:
            continue
        facts = dict(zip(subject, number.key, strict=True))
        facts |= {"of": number.of, "board": number.board, "shared": number.shared}
        for budget, rows in zip(number.axis, number.rows, strict=True):
            found = mean_interval(scores[rows], groups[rows])
            measured = {name: getattr(found, name) for name in ("mean", *_MEASURED)}
            point = {"budget": budget, "eps": names[number.of, budget] if budget else "0"}
            lines.append(facts | point | measured)
    columns = ["of", "board", "shared", "budget", "eps", "mean", *_MEASURED]
    return DataFrame(lines, columns=[*subject, *columns])
