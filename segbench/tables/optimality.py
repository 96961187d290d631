"""How close each attack comes to the best that is known: the optimality of AttackBench.

(Cinà et al., AAAI 2025, arXiv 2404.19460.) Of one network, the area between the clean score and an
attack's curve of mean Jaccard over eps, as a share of the area between the clean score and the best
known curve: 1 for an attack that nothing in the workspace beats anywhere, 0 for one that moves
nothing. The best known curve takes each case's lowest score, over all attacks that may change the
same part of the image, at that eps or a smaller one. It is only as low as what was run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from segbench.metrics.area import mean_height
from segbench.metrics.numbering import number_of
from segbench.plugins.naming import CLEAN, eps_names, is_rounded
from segbench.plugins.where import where_of
from segbench.tables.texts import budgets_of, by_key
from segbench.tables.worst import KINDS, SELECTING

COLUMNS = (
    "model", "dataset", "split", "budget_kind", "attack", "optimality", "eps", "cases", "left_out"
)  # fmt: skip
NO_EPS, NO_CASE = "it shares no eps with the others", "it shares no case with the others"
FEWER = "fewer scores could be compared with it"

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]
_KEPT = ["attack", "attack_params", "budget_kind", "budget", "case_id", SELECTING]


def optimality(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per network and attack, the closest to 1 first; none where only one attack was run.

    Attacks of one norm on one network are compared where they met: those with the most scores in
    common (attacks times budgets times cases), at the budgets and on the cases that all of them
    share. The others come last, without a number, with what they have and why they are left out;
    what they found counts in the best known curve. Targeted attacks and images rounded to their
    file's levels are no part of this: they are after something else, or may lie outside the ball.

    Args:
        cases: one row per case, minimum-norm attacks as points of their norm.
        subject: the columns that name a model and its data.
    """
    known, is_clean = cases[SELECTING].notna(), cases["attack"] == CLEAN
    bounded = cases["budget_kind"].isin(KINDS) & (cases["budget"] > 0) & ~is_clean
    whole = ~cases["attack_params"].map(is_rounded).astype(bool) & cases["target_jaccard"].isna()
    slim = cases[[*subject, *_KEPT]]
    attacked = slim[known & bounded & whole]
    starts = slim[known & is_clean].groupby([*subject], observed=True)
    clean = {key: part.set_index("case_id")[SELECTING] for key, part in starts}
    where = by_key(attacked, ["attack_params"], where_of).rename("where")
    names = eps_names(budgets_of(attacked))
    found = []
    for key, part in attacked.groupby([*subject, "budget_kind", where], observed=True, sort=True):
        if (start := clean.get(key[: len(subject)])) is not None:
            found += _of_one(part, start, names)
    return DataFrame(found, columns=list(COLUMNS))


def _of_one(
    part: DataFrame, clean: Series[float], names: Mapping[tuple[str, float], str]
) -> list[tuple[object, ...]]:
    """The rows of one network and norm."""
    keys = ["attack", "attack_params"]
    attack = number_of(part, keys)
    attacks = part[keys].iloc[np.unique(attack, return_index=True)[1]].astype("str")
    budget, every = part["budget"].factorize(sort=True)
    case, cases = part["case_id"].factorize(sort=True)
    scores = np.full((len(attacks), len(every), len(cases)), np.nan)
    scores[attack, budget, case] = part[SELECTING].to_numpy(np.float64)
    start: Array = np.asarray(clean.reindex(cases), np.float64)
    levels: Array = np.asarray(every, np.float64)
    met = ~np.isnan(scores) & ~np.isnan(start)
    if len(attacks) < 2 or not met.any():
        return []
    first, labels = part.iloc[0], attacks["attack"].tolist()
    facts = [first[name] for name in ("model", "dataset", "split", "budget_kind")]
    eps = [names[str(first["budget_kind"]), value] for value in levels.tolist()]
    chosen = _most_in_common(met)
    rows, left_out = list[tuple[object, ...]](), list[tuple[object, ...]]()
    if chosen:
        at, of = _block(met[chosen].all(0))
        there = " ".join(eps[n] for n in at)
        for place, share in zip(chosen, _shares(scores, start, levels, chosen), strict=True):
            rows.append((*facts, labels[place], share, there, len(of), ""))
    for place in sorted({*range(len(attacks))} - {*chosen}):
        own, others = met[place], met[chosen] if chosen else np.delete(met, place, 0)
        there = " ".join(eps[n] for n in np.flatnonzero(own.any(1)))
        count, why = int(own.any(0).sum()), _why(own, others)
        left_out.append((*facts, labels[place], math.nan, there, count, why))
    closest = sorted(rows, key=lambda row: (-cast(float, row[5]), str(row[4])))
    return [*closest, *sorted(left_out, key=lambda row: str(row[4]))]


def _shares(scores: Array, start: Array, every: Array, chosen: Sequence[int]) -> Iterator[float]:
    """The optimality of the chosen attacks: of scores (A, E, C), the clean ones (C,), eps (E,)."""
    known = np.logical_and.reduce(~np.isnan(scores[chosen]) & ~np.isnan(start))
    at, of = _block(known)
    lowest = np.minimum.accumulate(np.fmin.reduce([*scores, np.tile(start, (len(every), 1))]))
    budgets, begin = every[at].tolist(), float(start[of].mean())
    whole = _fallen(lowest[np.ix_(at, of)].mean(1), begin, budgets)
    for own in scores[chosen]:
        fallen = _fallen(own[np.ix_(at, of)].mean(1), begin, budgets)
        yield fallen / whole if whole else math.nan


def _most_in_common(met: Flags) -> list[int]:
    """The attacks (of A) with the most scores in common, at least two; none if no two share any.

    A set is begun with each attack, and takes the others, those with most scores first, as long as
    it has no fewer scores in common; the largest set counts, of equals the one begun first.
    """
    order = np.argsort(-met.sum((1, 2)), kind="stable").tolist()
    best, most = list[int](), 0
    for begun in order:
        own, count, shared = [begun], 0, met[begun]
        for other in order:
            larger = (len(own) + 1) * _size(shared & met[other])
            if other != begun and larger >= max(count, 1):
                own, count, shared = [*own, other], larger, shared & met[other]
        if count > most:
            best, most = own, count
    return sorted(best)


def _block(shared: Flags) -> tuple[Places, Places]:
    """The budgets and cases of a whole block of what is shared (E, C), as large as any it has.

    It takes budgets with most cases first.
    """
    order = np.argsort(-shared.sum(1), kind="stable")
    whole = np.logical_and.accumulate(shared[order])
    count = int(np.argmax(whole.sum(1) * np.arange(1, len(order) + 1))) + 1
    return np.sort(order[:count]), np.flatnonzero(whole[count - 1])


def _size(shared: Flags) -> int:
    budgets, cases = _block(shared)
    return len(budgets) * len(cases)


def _why(own: Flags, others: Flags) -> str:
    """Why an attack with these scores (E, C) is compared with none of the others (A, E, C)."""
    if not (own.any(1) & others.any(2).all(0)).any():
        return NO_EPS
    return FEWER if (own & others.all(0)).any() else NO_CASE


def _fallen(curve: np.ndarray, clean: float, budgets: Sequence[float]) -> float:
    """How far a curve lies below the clean score, on the mean from eps 0 on."""
    return float(mean_height([0.0, *(clean - curve)], [0.0, *budgets]))
