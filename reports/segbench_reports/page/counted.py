"""Which curves count: of each network, at every budget that all have, the lowest found.

Attacks that may change only a part of the image do not count: they are another threat.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise

from segbench.api import Tables
from segbench.plugins.where import where_of
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
    points = points[points["attack_params"].map(where_of) == ""]
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


def doubted(tables: Tables, dataset: str, split: str, kind: str) -> dict[str, str]:
    """Network -> its name where its curve stands among others, with what speaks against it."""
    lines = tables.headlines
    own = lines[(lines["dataset"] == dataset) & (lines["split"] == split) & (lines["of"] == kind)]
    marks = {str(line["model"]): line["marks"] for line in own.to_dict("records")}
    return {name: f"{name} (marked {said})" if said else name for name, said in marks.items()}


def proofs(tables: Tables, dataset: str, split: str) -> dict[str, dict[str, list[Value]]]:
    """Network -> what is certified of its smoothed forms, and what L2 attacks leave of itself.

    Of each by the name of its curve. Two networks stand in one frame: a curve from below may lie
    above the one from above.
    """
    whole, found = tables.certificates, dict[str, dict[str, list[Value]]]()
    if whole.empty:
        return found
    whole = whole[(whole["dataset"] == dataset) & (whole["split"] == split)]
    attacked = counted(tables, dataset, split, "l2")
    of_points = whole[whole["class_name"] == "all"].sort_values(["model", "certificate", "radius"])
    for line in of_points.to_dict("records"):
        curves = found.setdefault(str(line["model"]), {})
        name = f"certified: {line['certificate']} (lower bound, the smoothed network)"
        numbers = (float(line[f"jaccard{end}"]) for end in ("", "_low", "_high"))
        value = Value(float(line["radius"]), f"{line['radius']:.3g}", *numbers)
        curves.setdefault(name, []).append(value)
    for model in found.keys() & attacked.keys():
        found[model]["attacked (upper bound, the network itself)"] = attacked[model]
    return found


def strongest(attacks: Collection[str], confined: Collection[str]) -> set[str]:
    """Of a network's curves those that say what is left of it: the worst, or the only one."""
    free = [attack for attack in attacks if attack not in confined]
    worst = {a for a in free if a.startswith("worst of ") or a.endswith(", closed")}
    return worst or ({*free} if len(free) == 1 else set())


def named(attack: str, confined: Collection[str]) -> str:
    """What a curve is called where it stands beside others."""
    return f"{attack} (confined: another threat)" if attack in confined else attack


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
