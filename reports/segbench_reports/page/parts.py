"""The parts of the page, each from its own table: charts, the table of scores, and the rest."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

from segbench.api import Tables, best_points, distrusted
from segbench.plugins.naming import CLEAN, point_names
from segbench_reports.page import svg, words
from segbench_reports.page.counted import of_network, proofs, side_by_side

_THIRDS = ("small", "middle", "large")
_STEPS = 300  # of a survival curve
_FALL = ["model", "network_sha256", "weights_sha256", "attack", "attack_params", "norm", "below"]
_CURVE = ["attack", "attack_params"]
_MOST_LINES = 12  # in one frame; of more networks the first by the worst curve


def hero(tables: Tables, dataset: str, split: str) -> Iterator[svg.Chart]:
    """For each norm the curves of networks that may be compared, in one frame."""
    for kind in words.NORMS:
        for frame in side_by_side(tables, dataset, split, kind, _MOST_LINES):
            strong = set(frame.curves) - set(frame.faint)
            yield _frame(frame.title, kind, frame.curves, strong=strong, faint=frame.faint)


def panels(
    tables: Tables, dataset: str, split: str, models: Collection[str]
) -> Iterator[svg.Chart]:
    """For each of these networks and kind of budget all its attacks in one frame."""
    own = words.of_data(tables.summary, dataset, split)
    own = own[own["model"].isin(models)]
    for model, kind in (
        own[["model", "budget_kind"]]
        .drop_duplicates()
        .sort_values(["model", "budget_kind"])
        .itertuples(index=False, name=None)
    ):
        if kind not in ("none", "certified"):
            found = of_network(tables, dataset, split, kind, model)
            title = f"{model}, {words.KINDS[kind]}"
            yield _frame(title, kind, found.curves, strong=found.strong, faint=found.faint)


def proved(tables: Tables, dataset: str, split: str) -> Iterator[svg.Chart]:
    """For each network what is certified, from below, and attacked in L2, from above."""
    for model, curves in proofs(tables, dataset, split).items():
        yield _frame(f"{model}: certified and attacked, L2", "l2", curves, strong=set(curves))


def survival(tables: Tables, dataset: str, split: str) -> Iterator[svg.Chart]:
    """For each norm the share of cases that stand within a distance, by minimum-norm attacks."""
    own = words.of_data(tables.distances, dataset, split)
    falls = words.of_data(tables.falls, dataset, split)
    for norm, part in own.groupby("norm", sort=True) if len(own) else ():
        many = len(part)
        part = part.sort_values("median", ascending=False, kind="stable").head(_MOST_LINES)
        curves: list[tuple[str, list[svg.Value]]] = []
        for line in part.to_dict("records"):
            same = (falls[_FALL] == [line[name] for name in _FALL]).all(axis=1)
            found = _standing(falls.loc[same, "distance"].tolist(), str(norm))
            curves.append((f"{line['model']}, {line['attack']}", found))
        largest = max(value.budget for _, values in curves for value in values)
        lines = [
            svg.steps(name, n, _thinned(values), largest) for n, (name, values) in enumerate(curves)
        ]
        places = [largest * part / 4 for part in range(5)] if largest else [0.0]
        marks = [(at, words.budget(at, str(norm))) for at in places]
        rows_of = [
            [name, *(f"{_at(values, at):.0%}" for at, _ in marks)] for name, values in curves
        ]
        title = f"Cases that stand, by {words.NORMS.get(str(norm), str(norm))} distance"
        if many > len(part):
            title += f" (the first {len(part)} of {many} by their median)"
        ticks = svg.ticks(marks, largest)
        heads = ["curve", *(name for _, name in marks)]
        yield svg.Chart(title, "distance", lines, ticks, heads, rows_of)


def _standing(distances: Sequence[float], norm: str) -> list[svg.Value]:
    """Points of a survival curve: after so much, that share stands.

    Args:
        distances: at which each case fell, ascending; infinity for those that never did.
        norm: of them.
    """
    fell = [distance for distance in distances if math.isfinite(distance)]
    return [svg.Value(0.0, "0", 1.0)] + [
        svg.Value(at, words.budget(at, norm), 1 - (n + 1) / len(distances))
        for n, at in enumerate(fell)
    ]


def _thinned(values: Sequence[svg.Value]) -> Sequence[svg.Value]:
    """As many of them, the last among these, as a frame can show apart."""
    every = -(-len(values) // _STEPS)
    return [*values[:-1:every], values[-1]]


def _at(values: Sequence[svg.Value], budget: float) -> float:
    return [value.mean for value in values if value.budget <= budget][-1]


def _frame(
    title: str,
    kind: str,
    curves: Mapping[str, Sequence[svg.Value]],
    *,
    strong: Collection[str],
    faint: Collection[str] = (),
) -> svg.Chart:
    names = {value.budget: value.name for values in curves.values() for value in values}
    budgets = sorted(names)
    largest = budgets[-1] if budgets else 1.0
    lines, rows = [], []
    for place, (name, values) in enumerate(curves.items()):
        if values:
            weight = "strong" if name in strong else "faint" if name in faint else ""
            lines.append(svg.draw(name, place, values, largest, weight))
        cells = {value.budget: svg.written(value) for value in values}
        rows.append([name, *(cells.get(budget, "–") for budget in budgets)])
    shown = [(budget, names[budget].removeprefix("severity ")) for budget in budgets]
    axis = {"severity": "severity", "area": "area"}.get(
        kind, f"eps ({words.NORMS.get(kind, kind)})"
    )
    heads = ["curve", *(names[budget] for budget in budgets)]
    return svg.Chart(title, axis, lines, svg.ticks(shown, largest), heads, rows)


def _eps(point: Mapping[Any, Any]) -> str:
    return "clean" if point["eps"] == "0" else str(point["eps"])


def scores(tables: Tables, dataset: str, split: str, kind: str) -> dict[str, Any]:
    """The table of one kind of budget: heads, and rows of cells with the number they sort by."""
    own = words.of_data(tables.summary, dataset, split)
    own = own[own["budget_kind"] == kind]
    points = [name for name in point_names(own) if own[name].notna().any()]
    is_best = best_points(words.of_data(tables.curves, dataset, split))
    rows = []
    for line in own.to_dict("records"):
        cells = [
            {
                "text": words.interval(line[name], line[f"{name}_low"], line[f"{name}_high"]),
                "sort": words.number(line[name], 6),
                "best": is_best(line, name),
            }
            for name in points
        ]
        further = [
            (words.number(line["auc"]), words.number(line["auc"], 6)),
            (words.budget(line["half_eps"], kind), words.number(min(line["half_eps"], 1e9), 6)),
            (words.number(line["worst_decile"]), words.number(line["worst_decile"], 6)),
        ]
        cells += [{"text": text, "sort": sort, "best": False} for text, sort in further]
        groups = f"{line['cases']} / {line['groups']}"
        marks = " ".join(filter(None, (str(line["marks"]), str(line["doubt"]))))
        rows.append(
            {
                "model": line["model"],
                "attack": line["attack"],
                "doubted": distrusted(str(line["marks"])),
                "cells": cells,
                "groups": groups,
                "marks": marks,
            }
        )
    heads = [*points, "AUC", "half-eps", "worst decile"]
    return {"kind": words.KINDS.get(kind, kind), "heads": heads, "rows": rows}


def spreads(
    tables: Tables, dataset: str, split: str, models: Collection[str]
) -> list[dict[str, Any]]:
    """Of these networks how the cases of each point are spread, as violins."""
    own = words.of_data(tables.spread, dataset, split)
    own = own[own["model"].isin(models)]
    bins = [name for name in own if str(name).startswith("bin")]
    eps = _names(tables)
    found = []
    for model, part in own.groupby("model", sort=True):
        rows = []
        kinds = part.groupby("attack")["budget_kind"].nunique()
        for (attack, _, kind), curve in part.groupby([*_CURVE, "budget_kind"], sort=True):
            name = str(attack)
            if kinds[name] > 1:
                name += f", {words.NORMS.get(str(kind), str(kind))}"
            points = []
            for point in curve.sort_values("budget", kind="stable").to_dict("records"):
                counts = [int(point[name]) for name in bins]
                at = eps.get((point["budget_kind"], point["budget"]), "clean")
                reach = f"from {point['least']:.3f} to {point['most']:.3f}"
                points.append(
                    {
                        "name": at,
                        "path": svg.violin(counts, 34, 60),
                        "said": f"{at}: median {point['median']:.3f}, {reach}",
                        "median": round(60 * (1 - point["median"]), 1),
                    }
                )
            rows.append({"attack": name, "points": points})
        found.append({"model": model, "rows": rows})
    return found


def structures(tables: Tables, dataset: str, split: str) -> list[dict[str, Any]]:
    """Each structure of every network at the largest budget of its curve that counts."""
    own = words.of_data(tables.structures, dataset, split)
    eps = _names(tables)
    curve = ["model", *_CURVE, "budget_kind"]
    largest = own[own["budget"] == own.groupby(curve)["budget"].transform("max")]
    thirds: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in largest.sort_values([*curve, "class_name"], kind="stable").to_dict("records"):
        key = (*(line[name] for name in curve), line["class_name"])
        thirds.setdefault(key, {}).setdefault(line["third"], line)
    found = []
    for (model, attack, _, kind, structure), lines in thirds.items():
        budget = next(iter(lines.values()))["budget"]
        found.append(
            {
                "model": model,
                "attack": attack,
                "eps": eps.get((kind, budget), "") if attack != "clean" else "",
                "structure": structure,
                "cells": [_third(lines.get(third), third) for third in ("all", *_THIRDS)],
            }
        )
    return found


def _third(line: Mapping[Any, Any] | None, third: str) -> str:
    """A structure's mean Jaccard, of a third of its sizes with these."""
    if line is None:
        return "–"
    sizes = f" ({line['smallest']:.0f}–{line['largest']:.0f} px)" if third != "all" else ""
    return f"{line['mean']:.3f}{sizes}"


def differences(tables: Tables, dataset: str, split: str) -> list[dict[Hashable, Any]]:
    """Two networks on the same cases, a row per point."""
    own = words.of_data(tables.comparisons, dataset, split)
    if own.empty:
        return []
    return [
        line
        | {
            "text": words.interval(line["difference"], line["low"], line["high"], sign="+"),
            "told": line["p_holm"] <= words.LEVEL,
            "chance": words.number(line["p_holm"]),
            "eps": _eps(line),
        }
        for line in own[own["main"]].to_dict("records")
    ]


def ranks(tables: Tables, dataset: str, split: str) -> list[dict[Hashable, Any]]:
    """Each network's rank on its board, and by which attacks."""
    compared = words.of_data(tables.compared, dataset, split)
    attacks = {(line["of"], line["board"]): line["attack"] for line in compared.to_dict("records")}
    found = words.of_data(tables.ranks, dataset, split)
    if len(found):
        found = found.sort_values(["of", "board", "rank"], kind="stable")
    return [
        line | {"by": line["of"] if line["of"] == CLEAN else _by(line, attacks)}
        for line in found.to_dict("records")
    ]


def _by(line: Mapping[Hashable, Any], attacks: Mapping[tuple[str, int], str]) -> str:
    kind = words.NORMS.get(line["of"], line["of"])
    return f"{kind}, {attacks[line['of'], line['board']]}"


def _names(tables: Tables) -> dict[tuple[str, float], str]:
    points = tables.curves[["budget_kind", "budget", "eps"]].drop_duplicates()
    return {(kind, budget): eps for kind, budget, eps in points.itertuples(index=False, name=None)}
