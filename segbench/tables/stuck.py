"""Signs that an attack was stuck: the numbers themselves say that they should not be believed.

An attacked score is an upper bound. Where the same rows show that it is not tight, the curve is
marked, with a number and what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import Categorical, CategoricalDtype, DataFrame, Series

from segbench.plugins.naming import CLEAN, eps_names
from segbench.plugins.where import where_of
from segbench.tables.leads import Leads
from segbench.tables.signs import find_signs
from segbench.tables.texts import budgets_of, by_key, compact
from segbench.tables.worst import KINDS, SELECTING, rounding

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

STUCK = "stuck"
"""The mark of a curve with such a sign."""

SIGNS = (STUCK, "rise", "zero-gradients", "searched", "idle", "alone")
"""What ``signs_by_case`` marks: every point of such a curve, and a point by its own signs."""

_ADVICE = "give it more steps or restarts, or `-a {}`, and see segbench diagnose for a reason"
_WEAKER = "the worst of the attacks is what counts, not this one"
_WEAKEST = "{} attacks leave more than others, and the worst is what counts"
_NEEDED = [
    "model", "network_sha256", "weights_sha256", "dataset", "dataset_fingerprint", "split",
    "attack", "budget_kind", "budget", SELECTING, "zero_gradients", "late_gain", "member",
]  # fmt: skip
_FEW = 3  # signs of one kind that are named for a network


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the numbers say of the attacks.

    Attributes:
        cases: as they were, curves with a sign of their own marked.
        stuck: a sentence for each such curve.
        behind: a sentence for each network some of whose attacks merely leave more than others.
    """

    cases: DataFrame
    stuck: Sequence[str] = ()
    behind: Sequence[str] = ()


def judge(
    cases: DataFrame,
    worst: DataFrame,
    subject: list[str],
    only: Collection[str] | None = None,
) -> Judgement:
    """A sentence for each sign, of every network and attack.

    An attack that merely finds less than another is not marked: the worst of both has a curve.

    Args:
        cases: one row per case, of attacks as they are.
        worst: from ``worst_cases``.
        subject: the columns that name a model and its data.
        only: the networks of which there are sentences; None for all.
    """
    names = eps_names(budgets_of(cases))
    bounded, found = _bounded(cases, worst)
    if bounded.empty:
        return Judgement(cases)
    curves = _Curves(bounded, [*subject, "budget_kind", "where", "attack"], found)
    stuck_by_own, behind = list[str](), dict[str, dict[str, str]]()
    for first, points, own in curves.flagged():
        facts = bounded.iloc[first]
        if only is not None and facts["model"] not in only:
            continue
        of = {point: names[str(facts["budget_kind"]), curves.budget(point)] for point in points}
        signs = curves.describe(points, of)
        listed = "; ".join(signs[:_FEW]) + ("; and more" if len(signs) > _FEW else "")
        who, attack = f"{facts['model']} on {facts['dataset']} {facts['split']}", facts["attack"]
        if own:
            stuck_by_own.append(f"{who} under {attack}: {listed}: {_advice(str(attack))}.")
        else:
            behind.setdefault(who, {})[str(attack)] = listed
    stuck = np.zeros(len(cases), bool)
    stuck[bounded["row"].to_numpy()[curves.rows_of_flagged()]] = True
    flagged = cases[["marks"]].assign(stuck=stuck)
    marks = by_key(
        flagged, ["marks", "stuck"], lambda own, on: f"{own} {STUCK}".strip() if on else own
    )
    sentences = [_weaker(who, attacks) for who, attacks in behind.items()]
    return Judgement(cases.assign(marks=marks), stuck_by_own, sentences)


def signs_by_case(cases: DataFrame, subject: list[str]) -> Series[Any]:
    """Of each case the signs of its point, of ``SIGNS`` and most with a number: ``rise=0.012``.

    Empty where its curve has no sign of its own.
    """
    said = np.zeros(len(cases), np.int64)
    bounded, found = _bounded(cases, cases.iloc[:0])
    texts = [""]
    if not bounded.empty:
        curves = _Curves(bounded, [*subject, "budget_kind", "where", "attack"], found)
        by_point = np.zeros(curves.count, np.int64)
        for _, points, _ in curves.flagged():
            for point in points:
                by_point[point] = len(texts)
                texts.append(" ".join([STUCK, *curves.words(point, points[-1])]))
        said[bounded["row"].to_numpy()] = by_point[curves.point_of_rows]
    names = sorted({*texts})
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([places[text] for text in texts])[said]
    return Series(Categorical.from_codes(codes, dtype=CategoricalDtype(names)), index=cases.index)


def judge_alone(
    cases: DataFrame, subject: list[str], only: Collection[str] | None = None
) -> Judgement:
    """As ``judge``, but no attack is held against what others found, which marks none."""
    return judge(cases, cases.iloc[:0], subject, only)


def _weaker(who: str, signs: Mapping[str, str]) -> str:
    """What counts where attacks are behind others; attack -> its signs."""
    if len(signs) == 1:
        ((attack, sign),) = signs.items()
        return f"{who} under {attack}: {sign}: {_WEAKER}."
    listed = [f"{attack} ({sign})" for attack, sign in signs.items()]
    more = [f"and {len(signs) - _FEW} more"] if len(signs) > _FEW else []
    return f"{who}: {_WEAKEST.format(len(signs))}: {', '.join([*listed[:_FEW], *more])}."


def _advice(attack: str) -> str:
    """What to do: of the standard suite itself, its thorough form."""
    stronger = "standard:cost=thorough" if attack.startswith("standard") else "standard"
    return _ADVICE.format(stronger)


class _Curves:
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

    def describe(self, points: Sequence[int], names: Mapping[int, str]) -> list[str]:
        """A curve's signs in words."""
        return [
            *self._rises(points, names),
            *self._behind(points, names),
            *self._zero_gradients(points, names),
            *self._searched(points, names),
            *self._idle(points, names),
            *self._alone(points, names),
        ]

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

    def _rises(self, points: Sequence[int], names: Mapping[int, str]) -> Iterator[str]:
        """Budgets that leave more than a smaller one, over their common cases."""
        for point in points:
            rise = self._signs.rise[point]
            if rise > RISE:
                small = names[int(self._signs.origin[point])]
                yield (
                    f"it leaves {rise:.3f} more at {names[point]} than at {small}, which is no "
                    "wider"
                )

    def _behind(self, points: Sequence[int], names: Mapping[int, str]) -> Iterator[str]:
        """Budgets at which something else found far lower scores on the same cases."""
        for point in points:
            gap = self._signs.behind[point]
            if gap > BEHIND:
                yield f"at {names[point]} others leave {gap:.3f} less"

    def _zero_gradients(self, points: Sequence[int], names: Mapping[int, str]) -> Iterator[str]:
        """Budgets at which many steps, or most of some cases, met a gradient that was zero."""
        for point in points:
            share, blind = self._signs.zero[point], self._signs.blind[point]
            if share > ZERO:
                yield (
                    f"at {names[point]} {share:.0%} of its steps met a gradient that is zero "
                    "everywhere"
                )
            elif blind > BLIND:
                yield (
                    f"at {names[point]} {blind:.3f} of its mean is of cases of which most steps "
                    "met a gradient that is zero everywhere"
                )

    def _searched(self, points: Sequence[int], names: Mapping[int, str]) -> Iterator[str]:
        """Budgets at which a search without gradients was the better climber."""
        for point in points:
            share = self._signs.searched[point]
            if share > SEARCHED:
                yield (
                    f"at {names[point]} a search without gradients found the worst image of "
                    f"{share:.0%} of its cases, so gradients lead astray there"
                )

    def _idle(self, points: Sequence[int], names: Mapping[int, str]) -> Iterator[str]:
        """Budgets at which the last half of its steps found nothing, if the largest is one of them.

        A small ball may be searched to its end; the largest is where an attack has most to win.
        """
        if not self._is_idle[points[-1]]:
            return
        for point in points:
            if self._is_idle[point]:
                yield (
                    f"at {names[point]} the last half of its steps gained "
                    f"{self._signs.late_of_all[point]:.4f}, and "
                    f"{self._signs.left_of_all[point]:.3f} was left"
                )

    def _alone(self, points: Sequence[int], names: Mapping[int, str]) -> Iterator[str]:
        """Budgets at which its network is far ahead of all others, under this attack alone.

        Only where the largest one is among them: what falls there was not stuck before.
        """
        for point in points if self._ahead(points[-1]) else ():
            found = self._ahead(point)
            if found:
                own, other, lead = found
                yield (
                    f"at {names[point]} its network is ahead of every other by {own:.3f}, under "
                    f"{other} by {lead:.3f} only"
                )


def _bounded(cases: DataFrame, worst: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Rows of attacks within a norm, and the worst, with what ``find_signs`` wants and ``row``.

    Cases are numbers, which are quicker to find than names.
    """
    names = {name: number for number, name in enumerate(cases["case_id"].unique())}

    def prepared(frame: DataFrame, own: NDArray[np.int64]) -> DataFrame:
        numbers = frame["case_id"].iloc[own].map(names).astype("int64")  # once a name
        part = frame[_NEEDED].iloc[own].assign(case_id=numbers, row=own)
        params = frame[["attack_params"]].iloc[own]
        rounded = by_key(params, ["attack_params"], rounding) != ""
        return compact(part.assign(where=threats(params), rounded=rounded))

    bounded = cases["budget_kind"].isin(KINDS) & (cases["attack"] != CLEAN)
    own = np.flatnonzero(bounded.to_numpy())
    return prepared(cases, own), prepared(worst, np.arange(len(worst)))


def threats(cases: DataFrame) -> Series[str]:
    """Where each row's attack may perturb: attacks on a part of the image are judged apart."""
    return by_key(cases, ["attack_params"], where_of).rename("where")
