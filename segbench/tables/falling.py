"""Budgets whose scores were still falling when the gradients ran out: the worst case lies lower.

An attacked score is an upper bound. Where the very climbs that found the lowest scores gained much
in the last half of their steps, more steps would find more, and the bound is not tight yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from pandas import DataFrame, Series

from segbench.metrics.numbering import first_of, number_of
from segbench.plugins.naming import CLEAN, eps_names
from segbench.tables.stuck import threats
from segbench.tables.texts import budgets_of
from segbench.tables.worst import KINDS, SELECTING

FALLING = 0.01
"""Of a mean over cases: what the last half of the climbs that found its lowest scores gained. Ten
times what a curve ends with where more gradients bring nothing (``docs/strength.md``)."""


def falling_points(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """The budgets at which a mean was still falling by more than ``FALLING``.

    Of each case the row with the lowest score of all attacks at that budget counts, and none that
    leads to a target, whose gain is not of the score. A case at the worst score has come to its
    end, and so has one whose row does not say what its last half gained.

    Args:
        cases: one row per case.
        subject: the columns that name a model and its data.

    Returns:
        those columns, ``budget_kind``, ``where``, ``budget``, and the ``gain`` of each point.
    """
    keys = [*subject, "budget_kind", "where", "budget"]
    searched = cases["budget_kind"].isin(KINDS) & (cases["attack"] != CLEAN)
    searched &= cases["target_jaccard"].isna() & cases[SELECTING].notna()
    rows = cases.loc[searched, [*keys[:-2], "budget", "attack_params", "case_id", SELECTING,
                                "late_gain"]]  # fmt: skip
    if rows["late_gain"].isna().all():  # of rows of before it was noted nothing is said
        return DataFrame(columns=[*keys, "gain"])
    rows = rows.assign(where=threats(rows)).reset_index(drop=True)
    lowest = rows[SELECTING].groupby(number_of(rows, [*keys, "case_id"])).idxmin()
    rows = rows.iloc[lowest].reset_index(drop=True)
    gained = np.nan_to_num(np.where(rows[SELECTING] > 0, rows["late_gain"], 0))
    point = number_of(rows, keys)
    gain = Series(gained).groupby(point).mean().to_numpy()
    points: DataFrame = rows.iloc[first_of(point)][keys].assign(gain=gain)
    return points.loc[points["gain"] > FALLING].sort_values(keys, ignore_index=True)


def describe_falling(
    cases: DataFrame, subject: Sequence[str], only: Collection[str] | None = None
) -> Iterator[str]:
    """A sentence for each network: at which budgets, and by how much.

    Args:
        cases: one row per case.
        subject: the columns that name a model and its data.
        only: the networks of which there are sentences; None for all.
    """
    points = falling_points(cases, subject)
    names = eps_names(budgets_of(points)) if len(points) else {}
    keys = ["model", "dataset", "split", "where", "budget_kind"]
    for (model, dataset, split, where, kind), part in points.groupby(keys, observed=True):
        if only is not None and model not in only:
            continue
        within = f" (where={where})" if where else ""
        found = [
            f"{names[str(kind), budget]} by {gain:.3f}"
            for budget, gain in zip(part["budget"].tolist(), part["gain"].tolist(), strict=True)
        ]
        yield (
            f"{model} on {dataset} {split}{within}: its lowest mean {SELECTING} was still falling "
            f"at {', '.join(found)} in the last half of the steps that found it, so the worst case "
            "lies lower: `segbench attack --until-settled` spends more there, or `-a standard`, or "
            "its cost=thorough."
        )
