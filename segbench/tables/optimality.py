"""How close each attack comes to the best that is known: the optimality of AttackBench.

(Cinà et al., AAAI 2025, arXiv 2404.19460.) Of one network, the area between the clean score and an
attack's curve of mean Jaccard over eps, as a share of the area between the clean score and the best
known curve: 1 for an attack that nothing in the workspace beats anywhere, 0 for one that moves
nothing. The best known curve takes each case's lowest score, over all attacks that may change the
same part of the image, at that eps or a smaller one. It is only as low as what was run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from pandas import DataFrame, Series

from segbench.metrics.area import mean_height
from segbench.metrics.numbering import number_of
from segbench.plugins.naming import CLEAN, eps_names, is_rounded
from segbench.plugins.where import where_of
from segbench.tables.texts import budgets_of, by_key
from segbench.tables.worst import KINDS, SELECTING

COLUMNS = ("model", "dataset", "split", "budget_kind", "attack", "optimality", "eps", "cases")


_KEPT = ["attack", "attack_params", "budget_kind", "budget", "case_id", SELECTING]


def optimality(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per network and attack, the closest to 1 first; none where only one attack was run.

    Attacks are compared where they met: at the budgets, and on the cases, that all attacks of one
    norm on one network share. Targeted attacks and images rounded to their file's levels are left
    out: they are after something else, or may lie outside the ball.

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
    shared = (~np.isnan(scores)).any(2).all(0)  # budgets that every attack has
    if len(attacks) < 2 or not shared.any():
        return []
    budgets = [float(value) for value in every[shared]]
    start = clean.reindex(cases)
    whole_cases = ~np.isnan(scores[:, shared]).any((0, 1))
    start = start[whole_cases]
    if start.empty or start.isna().any():
        return []
    # (A, cases, eps)
    curves = np.ascontiguousarray(scores[:, shared][:, :, whole_cases].transpose(0, 2, 1))
    best = np.minimum.accumulate(np.minimum(curves.min(0), start.to_numpy()[:, None]), axis=1)
    whole = _fallen(best.mean(0), float(start.mean()), budgets)
    first = part.iloc[0]
    eps = " ".join(names[str(first["budget_kind"]), b] for b in budgets)
    subject = [first[name] for name in ("model", "dataset", "split", "budget_kind")]
    rows = [
        (
            *subject,
            name,
            _fallen(own.mean(0), float(start.mean()), budgets) / whole if whole else math.nan,
            eps,
            len(start),
        )
        for name, own in zip(attacks["attack"], curves, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row[5], row[4]))


def _fallen(curve: np.ndarray, clean: float, budgets: Sequence[float]) -> float:
    """How far a curve lies below the clean score, on the mean from eps 0 on."""
    return float(mean_height([0.0, *(clean - curve)], [0.0, *budgets]))
