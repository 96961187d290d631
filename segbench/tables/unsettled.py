"""The budgets at which nothing that was found can be believed yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np
from pandas import DataFrame

from segbench.api.objective import WITHOUT_GRADIENTS
from segbench.plugins.naming import CLEAN
from segbench.tables.averages import SUBJECT
from segbench.tables.curve_signs import BLIND, LATE, LEFT, RISE, SEARCHED, ZERO
from segbench.tables.falling import falling_points
from segbench.tables.signs import blind_scores
from segbench.tables.stuck import threats
from segbench.tables.texts import by_key
from segbench.tables.worst import SELECTING, rounding

JUDGED = ("linf", "l2")
"""The norms whose curves are judged: those in which the standard suite can be asked for more."""


def unsettled_budgets(
    cases: DataFrame, beside: Collection[str] = ()
) -> Mapping[tuple[str, str, str], set[float]]:
    """(model, norm, where) -> the budgets at which nothing found can be believed yet.

    Those at which of some case every attack leaves more than the lowest score of any smaller
    budget, met zero gradients, gained nothing any more, or did no better than a search without
    gradients, and those at which the lowest score was still falling. An attack that shows no sign
    settles what others leave stuck, if none of them found less than it did, and of no other cases
    than its own. One that takes no gradient can show none: it settles nothing, unless it is alone.
    A case at the worst score needs none.

    What leads to a target and what searches the least distance is not after the lowest score within
    a budget: it neither settles one nor leaves it in doubt. Its images count where they lie lower.
    Images that were rounded to their file's levels may lie outside the ball and do not.

    Args:
        cases: one row per case.
        beside: the names of minimum-norm attacks, of which there are points at budgets of others.
    """
    found: dict[tuple[str, str, str], set[float]] = defaultdict(set)
    bounded = _bounded(cases)
    threat = ["model", "budget_kind", threats(bounded)]
    for (model, norm, where), part in bounded.groupby(threat, sort=True, observed=True):
        judged = part[part["target_jaccard"].isna() & ~part["attack"].isin(beside)]
        by_attack = judged.groupby(["attack", "attack_params"], sort=True, observed=True)
        curves = [curve for _, curve in by_attack]
        for budget in sorted(set(judged["budget"].tolist())):
            there = [curve for curve in curves if (curve["budget"] == budget).any()]
            led = [curve for curve in there if _takes_gradients(curve, budget)]
            doubtful = _open_cases(judged, part, budget)
            for curve in led or there:
                own = doubtful & _cases(curve, budget)
                if own and _is_sound(curve, part, budget):
                    doubtful -= own
            if doubtful:
                found[str(model), str(norm), str(where)].add(budget)
    points = falling_points(bounded, SUBJECT)[["model", "budget_kind", "where", "budget"]]
    for model, norm, where, budget in points.itertuples(index=False, name=None):
        found[str(model), str(norm), str(where)].add(budget)
    return found


def _bounded(cases: DataFrame) -> DataFrame:
    """The rows whose images lie within a ball of a norm that is judged."""
    rows = cases[cases["budget_kind"].isin(JUDGED) & (cases["attack"] != CLEAN)]
    return rows[by_key(rows, ["attack_params"], rounding) == ""]


def _open_cases(judged: DataFrame, part: DataFrame, budget: float) -> set[str]:
    """The cases that were met at a budget, and of which something is left there."""
    lowest = part[part["budget"] <= budget].groupby("case_id", observed=True)[SELECTING].min()
    return _cases(judged, budget) & {str(case) for case in lowest.index[lowest > 0]}


def _cases(rows: DataFrame, budget: float) -> set[str]:
    """Those with a score at a budget."""
    own = rows[(rows["budget"] == budget) & rows[SELECTING].notna()]
    return {str(case) for case in own["case_id"]}


def _takes_gradients(curve: DataFrame, budget: float) -> bool:
    return bool(curve.loc[curve["budget"] == budget, "zero_gradients"].notna().any())


def _is_sound(curve: DataFrame, part: DataFrame, budget: float) -> bool:
    """Whether an attack shows no sign of being stuck at a budget, beside all that was found."""
    own = curve[curve["budget"] == budget]
    if own["zero_gradients"].where(own[SELECTING] > 0, 0).mean() > ZERO or _is_idle(own):
        return False
    if np.nansum(blind_scores(own)) > BLIND * own[SELECTING].notna().sum():
        return False
    if own["member"].isin(WITHOUT_GRADIENTS).mean() > SEARCHED:
        return False
    others = part[part["budget"] == budget].groupby(["attack", "attack_params"], observed=True)
    found = [part[part["budget"] < budget], *(rows for _, rows in others)]
    return not any(_gap(own, other) > RISE for other in found)


def _gap(own: DataFrame, other: DataFrame) -> float:
    """How much more the one leaves than the other, over the cases of both; NaN of none."""
    lowest = [rows.groupby("case_id")[SELECTING].min() for rows in (own, other)]
    return float((lowest[0] - lowest[1]).mean())


def _is_idle(own: DataFrame) -> bool:
    """Of the rows of one attack and budget that say what was gained; False where none does."""
    left = own[own[SELECTING].gt(0) & own["late_gain"].notna()]
    return bool(left["late_gain"].mean() < LATE and left[SELECTING].mean() > LEFT)
