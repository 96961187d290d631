"""The budgets at which nothing that was found can be believed yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from pandas import DataFrame

from segbench.api.objective import SEARCH
from segbench.plugins.naming import CLEAN
from segbench.tables.averages import SUBJECT
from segbench.tables.falling import falling_points
from segbench.tables.stuck import LATE, LEFT, RISE, SEARCHED, ZERO, threats
from segbench.tables.worst import SELECTING


def unsettled_budgets(cases: DataFrame) -> Mapping[tuple[str, str], set[float]]:
    """(model, where) -> the L-infinity budgets at which nothing found can be believed yet.

    Those to which a curve rises from the lowest score of any smaller budget, those at which
    every attack met zero gradients, gained nothing any more, or did no better than a search without
    gradients, and those at which the lowest score was still falling. An attack that shows no sign
    settles what others leave stuck.
    """
    found: dict[tuple[str, str], set[float]] = defaultdict(set)
    bounded = cases[(cases["budget_kind"] == "linf") & (cases["attack"] != CLEAN)]
    for (model, where), part in bounded.groupby(["model", threats(bounded)], sort=True):
        curves = [curve for _, curve in part.groupby(["attack", "attack_params"], sort=True)]
        for budget in sorted(set(part["budget"].tolist())):
            there = [curve for curve in curves if (curve["budget"] == budget).any()]
            if not any(_is_sound(curve, part, budget) for curve in there):
                found[str(model), str(where)].add(budget)
    points = falling_points(bounded, SUBJECT)[["model", "where", "budget"]]
    for model, where, budget in points.itertuples(index=False, name=None):
        found[str(model), str(where)].add(budget)
    return found


def _is_sound(curve: DataFrame, part: DataFrame, budget: float) -> bool:
    """Whether an attack shows no sign of being stuck at a budget, beside all that was found."""
    own = curve[curve["budget"] == budget]
    if own["zero_gradients"].where(own[SELECTING] > 0, 0).mean() > ZERO or _is_idle(own):
        return False
    if (own["member"] == SEARCH).mean() > SEARCHED:
        return False
    smaller = part[part["budget"] < budget]
    best = smaller.groupby("case_id")[SELECTING].min()
    scores = own.set_index("case_id")[SELECTING]
    common = scores.index.intersection(best.index)
    return not (scores[common] - best[common]).mean() > RISE


def _is_idle(own: DataFrame) -> bool:
    """Of the rows of one attack and budget; False where nobody noted what was gained."""
    left = own[own[SELECTING] > 0]
    return bool(left["late_gain"].mean() < LATE and left[SELECTING].mean() > LEFT)
