"""The curve of each network that counts: at every budget that all have, the lowest found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from segbench.api import Tables
from segbench_reports.page.svg import Value


def counted(tables: Tables, dataset: str, split: str, kind: str) -> dict[str, list[Value]]:
    """Network -> its points, the clean one first; those that keep most come first."""
    lines, curves = tables.headlines, tables.curves
    own = lines[
        (lines["dataset"] == dataset) & (lines["split"] == split) & (lines["of"] == kind)
    ].sort_values("value", ascending=False, kind="stable")
    points = curves[
        (curves["metric"] == "jaccard")
        & (curves["dataset"] == dataset)
        & (curves["split"] == split)
        & (curves["budget_kind"] == kind)
    ]
    budgets = [set(points.loc[points["model"] == model, "budget"]) for model in own["model"]]
    common = set.intersection(*budgets) if budgets else set()
    found = {}
    for model in own["model"]:
        there = points[(points["model"] == model) & points["budget"].isin(common)]
        least = there.sort_values("mean", kind="stable").drop_duplicates("budget")
        found[str(model)] = [
            Value(
                float(point["budget"]),
                "clean" if point["eps"] == "0" else str(point["eps"]),
                float(point["mean"]),
                float(point["low"]),
                float(point["high"]),
            )
            for point in least.sort_values("budget").to_dict("records")
        ]
    return found


def half(values: Sequence[Value]) -> float:
    """The budget at which the clean score is halved, on the line between two points.

    Infinite where it never is; NaN without a clean point.
    """
    if not values or values[0].budget != 0:
        return math.nan
    wanted = values[0].mean / 2
    for before, after in pairwise(values):
        if after.mean <= wanted < before.mean:
            part = (before.mean - wanted) / (before.mean - after.mean)
            return before.budget + part * (after.budget - before.budget)
    return math.inf
