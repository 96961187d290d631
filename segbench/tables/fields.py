"""Networks side by side: what all of them met, and what that left of each case.

An attacked score is an upper bound, as low as what was tried. So networks are compared by what all
of them met: the same attacks, with the same parameters, at the same budgets, on the same cases.
Otherwise the one that was attacked more would be the worse for it.

Whatever a network met on a case is one row more that may be the lowest: a further attack, budget or
case never takes another case away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.metrics.numbering import first_of, number_of
from segbench.plugins.naming import CLEAN
from segbench.plugins.where import where_of
from segbench.tables.texts import by_key
from segbench.tables.worst import KINDS, SELECTING, rounding

DATA = ["dataset", "dataset_fingerprint", "split"]
SEVERITY = "severity"
OF = (CLEAN, *KINDS, SEVERITY)
"""What a number of a network may be of."""

UNSCORED = 2.0
"""Stands for no score, of a label without foreground: above all that there are."""

_MET = ["budget", "attack", "attack_params"]
Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Field:
    """The networks of a data set, and what they met of one kind.

    Attributes:
        of: one of ``OF``.
        data: by ``DATA``.
        networks: M, each by the columns of the subject.
        met: K lines of ``budget``, ``attack`` and ``attack_params``, ascending.
        rows: (M, K, C), the place among the cases of what that left; -1 for none.
        clean: (M, C), likewise; none but for a norm, whose curves begin there.
        scores: of every row among the cases, (N,); ``UNSCORED`` where there is none.
        codes: of every row among the cases, (N,), which code its attack had; -1 where none is
            known.
    """

    of: str
    data: tuple[str, ...]
    networks: Sequence[tuple[Any, ...]]
    met: DataFrame
    rows: Codes
    clean: Codes
    scores: Array
    codes: Codes

    def is_one_code(self, members: Sequence[int], shared: Flags) -> bool:
        """Whether no attack is of unlike code in what these networks share; see ``Lowest``."""
        found = np.where(shared, self.codes[self.rows[members]], -1)
        found = found.swapaxes(0, 1).reshape(len(self.met), -1)
        lowest = np.where(found < 0, len(self.codes), found).min(1)
        return not (found.max(1) > lowest).any()

    def lowest(self, members: Sequence[int]) -> Lowest:
        """What is left of each case by all that each of these networks met on it."""
        rows, clean = self.rows[members], self.clean[members]
        shared: Flags = np.logical_and.reduce(rows >= 0)
        at = self.met["budget"].to_numpy(np.float64)
        if self.of == SEVERITY:
            at = np.full(len(at), at.max())  # a case's lowest over all of them
        best = start = np.where((clean >= 0).all(0), clean, -1)
        low = np.where(best >= 0, self.scores[best], np.inf)
        budgets, won = np.unique(at), []
        for budget in budgets:  # what lies in a smaller ball lies in this one
            here = at == budget
            own = np.where(shared[here], self.scores[rows[:, here]], np.inf)
            first = own.argmin(1)[:, None]  # of equals the first
            least = np.take_along_axis(own, first, 1)[:, 0]
            lower = least <= low
            low = np.where(lower, least, low)
            best = np.where(lower, np.take_along_axis(rows[:, here], first, 1)[:, 0], best)
            won.append(np.where(shared[here].any(0), best, -1))
        return Lowest(at, budgets, np.stack(won, 1), start, shared)

    def counted(
        self, lowest: Lowest, kept: Sequence[int], cases: Flags, place: int = 0
    ) -> tuple[Codes, bool, Flags]:
        """What a number of one network is over.

        Of a curve that begins with clean images the cases that have them, and of all those that
        have a score.

        Args:
            lowest: of this network and others.
            kept: the budgets of the number, by place.
            cases: (C,), those with all of these.
            place: of the network among the others.

        Returns:
            its rows (P, n), whether the first of them are clean, and which cases (C,) these are.
        """
        rows, start = lowest.won[place][[*kept]], lowest.start[place]
        begun = bool((start[cases] >= 0).any())
        if begun:
            rows = np.vstack([start, rows])
        found = cases & (rows >= 0).all(0) & (self.scores[rows] < UNSCORED).all(0)
        return rows[:, found], begun, found

    @cached_property
    def boards(self) -> list[list[int]]:
        """The networks in groups, each of as many as anything has met on one case.

        A network that shares nothing with another is alone.
        """
        left, found = [*range(len(self.networks))], []
        while left:
            there = self.rows[left] >= 0
            count = there.sum(0)
            most = count == count.max()
            place = int(most.sum(1).argmax())
            case = int(most[place].argmax())
            members = [m for m, own in zip(left, there[:, place, case], strict=True) if own]
            found.append(members)
            left = [m for m in left if m not in members]
        return found


@dataclass(frozen=True, eq=False)
class Lowest:
    """The row with each case's lowest score so far, at every budget that networks share.

    Attributes:
        at: the budget of each line of ``Field.met``, (K,); of corruptions the largest for all.
        budgets: (B,), ascending.
        won: (M, B, C), -1 where nothing was shared at that very budget.
        start: the clean row of each case, (M, C), -1 unless all have it; none but for a norm.
        shared: which of what there is all of them met on which case, (K, C).
    """

    at: Array
    budgets: Array
    won: Codes
    start: Codes
    shared: Flags

    def points(self, wanted: Sequence[float] = ()) -> tuple[list[int], Flags]:
        """The budgets (by place) of a curve over the same cases, and these cases (C,).

        Those with the most cases, of equals the largest, and all others that have every case of it.

        Args:
            wanted: the budgets are these.
        """
        there: Flags = np.logical_and.reduce(self.won >= 0)  # (B, C)
        if len(wanted):
            kept = [n for n, budget in enumerate(self.budgets.tolist()) if budget in wanted]
            return kept, np.logical_and.reduce(there[kept])
        counts = there.sum(1)
        cases = there[len(counts) - 1 - int(counts[::-1].argmax())]
        return [n for n, own in enumerate(there) if own[cases].all()], cases


def fields_of(cases: DataFrame, subject: Sequence[str], where: str = "") -> Iterator[Field]:
    """A field for each data set and kind that there is.

    Attacks on another part of the image are another threat and have no part. Neither have images
    that were rounded to their file's levels, which may lie outside the ball, nor rows without a
    score, of labels without foreground, where their network has others.

    Args:
        cases: one row per case, of attacks as they are.
        subject: the columns that name a model and its data.
        where: the part of the image that attacks may perturb, "" for all of it.
    """
    slim = cases[[*subject, *_MET, "budget_kind", "case_id"]].reset_index(drop=True)
    slim = slim.assign(row=np.arange(len(slim)), network=number_of(slim, subject))
    keys = slim[[*subject]].iloc[first_of(slim["network"].to_numpy())].astype("str")
    names = [*keys.itertuples(index=False, name=None)]
    scores = cases[SELECTING].fillna(UNSCORED).to_numpy(np.float64)
    codes, known = cases["attack_sha256"].factorize()
    codes = np.where(np.asarray(known.astype("str") == "")[codes], -1, codes)
    counted = slim[_counts(slim, where)]
    places = [subject.index(name) for name in DATA]
    for _, data in counted.groupby(DATA, sort=True, observed=True):
        data = data.assign(case=data["case_id"].factorize(sort=True)[0])
        key = tuple(names[int(data["network"].iloc[0])][place] for place in places)
        for of in OF:
            field = _field(of, key, data, names, scores, codes)
            if field is not None:
                yield field


def _counts(slim: DataFrame, where: str) -> Flags:
    """Which rows are of that part of the image, or a clean one, and within their ball."""
    normed = slim["budget_kind"].isin(KINDS).to_numpy()
    whole = (by_key(slim, ["attack_params"], where_of) == where).to_numpy()
    whole = whole | (slim["attack"] == CLEAN).to_numpy()
    exact = (by_key(slim, ["attack_params"], rounding) == "").to_numpy()
    return np.asarray(whole & (exact | ~normed))


def _scored(own: DataFrame, scores: Array) -> Flags:
    """Which rows have a score, all of a network that has none: no other decides what is met."""
    there = scores[own["row"].to_numpy()] < UNSCORED
    network = own["network"].to_numpy()
    return np.asarray(there | (np.bincount(network, there)[network] == 0))


def _field(
    of: str,
    key: tuple[str, ...],
    data: DataFrame,
    names: Sequence[tuple[Any, ...]],
    scores: Array,
    codes: Codes,
) -> Field | None:
    """What networks met of that kind; None where there is nothing."""
    is_clean = (data["attack"] == CLEAN).to_numpy()
    kind = (data["budget_kind"] == of).to_numpy() & (data["budget"] > 0).to_numpy()
    own = data[is_clean if of == CLEAN else kind & ~is_clean]
    if own.empty:
        return None
    own = own[_scored(own, scores)]
    networks, model = np.unique(own["network"].to_numpy(), return_inverse=True)
    slot, size = number_of(own, _MET), int(data["case"].max()) + 1
    met = own[_MET].iloc[first_of(slot)].reset_index(drop=True)
    rows = np.full((len(networks), len(met), size), -1)
    rows[model, slot, own["case"].to_numpy()] = own["row"].to_numpy()
    clean = np.full((len(networks), size), -1)
    if of in KINDS:
        start = data[is_clean & np.isin(data["network"].to_numpy(), networks)]
        place = np.searchsorted(networks, start["network"].to_numpy())
        clean[place, start["case"].to_numpy()] = start["row"].to_numpy()
    return Field(of, key, [names[n] for n in networks.tolist()], met, rows, clean, scores, codes)
