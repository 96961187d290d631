"""Which curves show signs of a stuck attack, by their numbers, and at which of their budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.tables.leads import Leads
from segbench.tables.signs import find_signs

RISE = 0.005
"""Of a mean: an honest curve never rises, since a larger ball holds the smaller one."""

BEHIND = 0.05
"""Of a mean: what another attack finds beyond this one at the same budget, or a smaller."""

ZERO = 0.1
"""Of an attack's steps: a gradient that is zero in every pixel leads nowhere."""

BLIND = 0.005
"""Of a mean: what is left of cases of which most steps met such a gradient, be they a few."""

SEARCHED = 0.25
"""Of an attack's cases: a search without gradients found their worst image, and no climb did."""

LATE, LEFT = 1e-4, 0.05
"""Of a mean: what the last half of an attack's steps gained, and what it left. A search that still
has so much to win, and for half of its steps wins less than a pixel, goes nowhere. Honest networks
of width 8 to 16 lie above 4e-4 at 0.5/255 already, and above 0.01 from 2/255 on."""

Kind = Literal["rise", "behind", "zero", "blind", "searched", "idle", "alone"]
_ORDER: Sequence[Kind] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class Sign:
    """One kind of sign at one budget of a curve.

    Attributes:
        budget: where it shows.
        size: how bad it is there, beside the same sign at other budgets.
        more: at how many other budgets it shows besides.
        facts: what else there is to say: of ``rise`` the ``smaller`` budget, of ``idle`` what the
            last half of the steps ``gained``, of ``alone`` the ``other`` attack and the ``lead``
            under it.
    """

    kind: Kind
    budget: float
    size: float
    more: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


def _badness(sign: Sign) -> float:
    """To be compared with that of the same kind: an attack that is idle had most to win last."""
    return sign.budget if sign.kind == "idle" else sign.size


class Curves:
    """Curves with what their numbers say; a point is a curve at a budget, by number."""

    def __init__(self, bounded: DataFrame, keys: list[str], lowest: DataFrame) -> None:
        self._signs = find_signs(bounded, keys, lowest)
        self._leads = Leads(bounded)
        row = self._signs.row
        self._threat = self._leads.threat[row].tolist()
        self._model = bounded["model"].cat.codes.to_numpy()[row].tolist()
        self._attack = bounded["attack"].iloc[row].astype("str").tolist()

    @property
    def count(self) -> int:
        """How many points there are."""
        return len(self._signs.row)

    @property
    def point_of_rows(self) -> NDArray[np.int64]:
        """The point of each row, (N,)."""
        return self._signs.of

    def words(self, point: int, largest: int) -> Iterator[str]:
        """A point's own signs, for the gate; ``largest`` is the last of its curve."""
        signs = self._signs
        if (rise := signs.rise[point]) > RISE:
            yield f"rise={rise:.2g}"
        if (zero := signs.zero[point]) > ZERO or signs.blind[point] > BLIND:
            yield f"zero-gradients={zero:.2g}"
        if (searched := signs.searched[point]) > SEARCHED:
            yield f"searched={searched:.2g}"
        if self._is_idle[point] and self._is_idle[largest]:
            yield "idle"
        if self._ahead(largest) and (found := self._ahead(point)):
            yield f"alone={found[0]:.2g}"

    def budget(self, point: int) -> float:
        """Of a point."""
        return float(self._signs.budget[point])

    def flagged(self) -> Iterator[tuple[int, list[int], bool]]:
        """Each curve with a sign: the place of one of its rows, and its points in order.

        And whether one of its signs is its own.
        """
        signs = self._signs
        starts = np.flatnonzero(np.append(True, signs.curve[1:] != signs.curve[:-1]))
        stops = np.append(starts[1:], len(signs.curve))
        wanted, own = (
            {*np.unique(signs.curve[self._has_sign(behind)]).tolist()} for behind in (True, False)
        )
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            curve = signs.curve[start]
            if curve in wanted:
                yield int(signs.row[start]), [*range(start, stop)], curve in own

    def rows_of_flagged(self) -> NDArray[np.bool_]:
        """Which rows (N,) are of a curve with a sign of its own."""
        wanted = np.unique(self._signs.curve[self._has_sign(behind=False)])
        rows: NDArray[np.bool_] = np.isin(self._signs.curve, wanted)[self._signs.of]
        return rows

    def signs(self, points: Sequence[int]) -> list[Sign]:
        """A curve's signs, of each kind the worst."""
        found = dict[Kind, list[Sign]]()
        for point in points:
            for sign in self._signs_of(point, points[-1]):
                found.setdefault(sign.kind, []).append(sign)
        worst = (max(signs, key=_badness) for signs in found.values())
        each = [replace(sign, more=len(found[sign.kind]) - 1) for sign in worst]
        return sorted(each, key=lambda sign: _ORDER.index(sign.kind))

    def _signs_of(self, point: int, largest: int) -> Iterator[Sign]:
        """Those of a point; ``largest`` is the last of its curve.

        A small ball may be searched to its end, and what falls at the largest was not stuck before:
        so the largest point must be idle, or alone, too.
        """
        signs, budget = self._signs, self.budget(point)
        if (rise := float(signs.rise[point])) > RISE:
            smaller = self.budget(int(signs.origin[point]))
            yield Sign("rise", budget, rise, facts={"smaller": smaller})
        if (gap := float(signs.behind[point])) > BEHIND:
            yield Sign("behind", budget, gap)
        if (share := float(signs.zero[point])) > ZERO:
            yield Sign("zero", budget, share)
        elif (blind := float(signs.blind[point])) > BLIND:
            yield Sign("blind", budget, blind)
        if (searched := float(signs.searched[point])) > SEARCHED:
            yield Sign("searched", budget, searched)
        if self._is_idle[point] and self._is_idle[largest]:
            gained = float(signs.late_of_all[point])
            yield Sign("idle", budget, float(signs.left_of_all[point]), facts={"gained": gained})
        if self._ahead(largest) and (found := self._ahead(point)):
            own, other, lead = found
            yield Sign("alone", budget, own, facts={"other": other, "lead": lead})

    def _has_sign(self, behind: bool) -> NDArray[np.bool_]:
        signs = self._signs
        with np.errstate(invalid="ignore"):
            found = (signs.rise > RISE) | (signs.zero > ZERO) | (signs.searched > SEARCHED)
            found |= (signs.blind > BLIND) | (self._is_idle & signs.largest())
            if behind:
                found |= signs.behind > BEHIND
        found[
            [point for point in np.flatnonzero(signs.largest()).tolist() if self._ahead(point)]
        ] = True
        return found

    @cached_property
    def _is_idle(self) -> NDArray[np.bool_]:
        """Whether the last half of the steps found nothing; False where nobody noted that (P,)."""
        return (self._signs.late < LATE) & (self._signs.left > LEFT)

    def _ahead(self, point: int) -> tuple[float, str, float] | None:
        """Own lead, and another attack with the largest other; None where that is no sign."""
        return self._leads.ahead(self._threat[point], self._model[point], self._attack[point])
