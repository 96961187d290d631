"""How close each attack comes to the best that is known: the optimality of AttackBench.

(Cinà et al., AAAI 2025, arXiv 2404.19460.) Of one network, the area between the clean score and an
attack's curve of mean Jaccard over eps, as a share of the area between the clean score and the best
known curve: 1 for an attack that nothing in the workspace beats anywhere, 0 for one that moves
nothing. The best known curve takes each case's lowest score, over all attacks that may change the
same part of the image, at that eps or a smaller one. It is only as low as what was run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pandas import DataFrame

from segbench.metrics.area import mean_height
from segbench.plugins.naming import CLEAN, eps_names
from segbench.plugins.where import where_of
from segbench.tables.texts import budgets_of
from segbench.tables.worst import KINDS, SELECTING, is_rounded

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
    clean, attacked = slim[known & is_clean], slim[known & bounded & whole]
    threats = attacked["attack_params"].map(where_of).rename("where")
    found = []
    for key, part in attacked.groupby([*subject, "budget_kind", threats], observed=True, sort=True):
        own = clean[(clean[list(subject)] == list(key[: len(subject)])).all(axis=1)]
        found += _of_one(part, own)
    return DataFrame(found, columns=list(COLUMNS))


def _of_one(part: DataFrame, clean: DataFrame) -> list[tuple[object, ...]]:
    """The rows of one network and norm."""
    keys = ["attack", "attack_params"]
    # (attack, budget) across, cases down
    scores = part.pivot_table(
        index="case_id", columns=[*keys, "budget"], values=SELECTING, observed=True
    )
    points: dict[tuple[str, str], set[float]] = {}
    columns: list[Any] = scores.columns.to_list()
    for attack, params, budget in columns:
        points.setdefault((str(attack), str(params)), set()).add(float(budget))
    attacks, shared = list(points), set.intersection(*points.values())
    if len(attacks) < 2 or not shared:
        return []
    budgets = sorted(shared)
    scores = scores[[(*attack, b) for attack in attacks for b in budgets]].dropna()
    start = clean.set_index("case_id")[SELECTING].reindex(scores.index)
    if scores.empty or start.isna().any():
        return []
    curves = np.stack([scores[attack][budgets].to_numpy() for attack in attacks])  # (A, cases, eps)
    best = np.minimum.accumulate(np.minimum(curves.min(0), start.to_numpy()[:, None]), axis=1)
    whole = _fallen(best.mean(0), float(start.mean()), budgets)
    first = part.iloc[0]
    names = eps_names(budgets_of(part))
    eps = " ".join(names[str(first["budget_kind"]), b] for b in budgets)
    subject = [first[name] for name in ("model", "dataset", "split", "budget_kind")]
    rows = [
        (
            *subject,
            attack,
            _fallen(own.mean(0), float(start.mean()), budgets) / whole if whole else math.nan,
            eps,
            len(scores),
        )
        for (attack, _), own in zip(attacks, curves, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row[5], row[4]))


def _fallen(curve: np.ndarray, clean: float, budgets: Sequence[float]) -> float:
    """How far a curve lies below the clean score, on the mean from eps 0 on."""
    return float(mean_height([0.0, *(clean - curve)], [0.0, *budgets]))
