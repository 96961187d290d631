"""Rows to tables: cases, curves and their summary, computed once for every report and the gate.

Order of averaging: over the classes of a case (NaN, a class its label lacks, is skipped), then over
attack seeds, then over cases. Intervals resample groups, see ``stats.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series, concat
from scipy.integrate import trapezoid

from segbench.api import Tables
from segbench.errors import UserError
from segbench.metrics.stats import mean_interval
from segbench.plugins.naming import CLEAN, eps_names
from segbench.store.diagnoses import Diagnosis
from segbench.tables.comparisons import compare_models
from segbench.tables.diagnoses import describe_diagnoses, mark_untrusted
from segbench.tables.labels import name_apart
from segbench.tables.minnorm import KIND, curve_points, describe_distances, summarise_distances
from segbench.tables.notes import Stale, collect_notes
from segbench.tables.seed_spread import spread_over_seeds
from segbench.tables.transfers import transfer_matrices
from segbench.tables.worst import describe_worst, worst_cases

METRICS = (
    "jaccard", "dice", "accuracy", "sensitivity", "specificity", "nsd", "hd95", "target_jaccard",
)  # fmt: skip
_SUBJECT = ["model", "weights_sha256", "dataset", "dataset_fingerprint", "split"]
_CURVE = [*_SUBJECT, "attack", "attack_params", "budget_kind"]
_CASE = [*_CURVE, "budget", "case_id", "group_id"]
_MEANS = [*METRICS, "linf", "l2", "forwards", "backwards", "seconds"]
_WORDS = ("precision", "device", "marks")


def build_tables(
    rows: DataFrame,
    *,
    current: Mapping[str, str] | None = None,
    all_weights: bool = False,
    runs: Mapping[str, Mapping[str, Any]] | None = None,
    diagnoses: Sequence[Diagnosis] = (),
) -> Tables:
    """All tables of the stored rows.

    Args:
        rows: from ``store.rows.read_rows``.
        current: model name -> SHA-256 of its present weights; rows of other weights are left out.
            A model that is not named here is shown with the weights of its newest row.
        all_weights: show every model with all weights it ever had.
        runs: from ``store.rows.read_runs``, for the provenance.
        diagnoses: from ``read_diagnoses``: their findings, and marks on rows not to be trusted.

    Raises:
        UserError: there are no rows, or none of current weights.
    """
    if rows.empty:
        raise UserError(
            "the workspace holds no results; `segbench attack --eps 0.03` computes some"
        )
    stale: dict[str, Stale] = {}
    if not all_weights:
        rows, stale = _select_weights(rows, current or {})
    if rows.empty:
        raise UserError(
            f"all stored rows are of older weights of {', '.join(stale)}; "
            "run `segbench attack` again or ask for the rows of all weights"
        )
    return _tabulate(mark_untrusted(rows, diagnoses), stale, runs or {}, diagnoses)


def _tabulate(
    rows: DataFrame,
    stale: Mapping[str, Stale],
    runs: Mapping[str, Mapping[str, Any]],
    diagnoses: Sequence[Diagnosis],
) -> Tables:
    """What is made of the rows that are shown."""
    named = name_apart(rows)
    averaged = _average_cases(named)
    distances = summarise_distances(averaged, _CURVE)
    points = concat([averaged, curve_points(averaged, _SUBJECT, METRICS)], ignore_index=True)
    cases = points[points["budget_kind"] != KIND].reset_index(drop=True)
    worst = worst_cases(cases, _SUBJECT)
    everything = concat([cases, worst], ignore_index=True)
    curves = _draw_curves(everything)
    summary = _summarise(curves)
    return Tables(
        rows=rows.reset_index(drop=True),
        cases=cases,
        curves=curves,
        summary=summary,
        distances=distances,
        seeds=spread_over_seeds(curves),
        comparisons=compare_models(everything),
        transfers=list(transfer_matrices(curves)),
        notes=[
            *describe_diagnoses(rows, named, diagnoses),
            *collect_notes(cases, curves, summary, stale, _seeds(named)),
            *describe_worst(worst),
            *describe_distances(distances),
        ],
        attacks=_parameters(named),
        provenance=_trace(named, runs),
    )


def _select_weights(
    rows: DataFrame, current: Mapping[str, str]
) -> tuple[DataFrame, dict[str, Stale]]:
    """The rows of current weights; and per model, what was left out."""
    newest = rows.sort_values("created", kind="stable").drop_duplicates("model", keep="last")
    chosen = {**dict(zip(newest["model"], newest["weights_sha256"], strict=True)), **current}
    keep = rows["model"].map(chosen) == rows["weights_sha256"]
    left_out = rows.loc[~keep, "model"].value_counts().sort_index()
    shown = set(rows.loc[keep, "model"])
    return rows[keep], {str(m): Stale(int(n), m in shown) for m, n in left_out.items()}


def _average_cases(rows: DataFrame) -> DataFrame:
    """One row per case: mean over classes, then over seeds; false positives are summed first."""
    by_seed = rows.groupby([*_CASE, "seed"], sort=True)
    scores = by_seed[_MEANS].mean()
    scores["false_positives"] = by_seed["false_positives"].sum()
    by_case = scores.groupby(level=_CASE, sort=True)
    cases = by_case.mean()
    cases["seeds"] = by_case.size()
    for column in _WORDS:
        cases[column] = _join_words(rows, _CASE, column)
    return cases.reset_index()


def _join_words(rows: DataFrame, keys: list[str], column: str) -> Series[str]:
    """Every word that a column has within each key, once, sorted."""
    unique = rows[[*keys, column]].drop_duplicates()
    if unique.duplicated(keys).any():  # rare, and slow where there are many
        join = _words if column == "marks" else _phrases
        joined: Series[str] = unique.groupby(keys)[column].agg(join)
        return joined
    return unique.set_index(keys)[column]


def _phrases(texts: Iterable[str]) -> str:
    return " + ".join(sorted({phrase for text in texts for phrase in text.split(" + ")}))


def _words(texts: Iterable[str]) -> str:
    return " ".join(sorted({word for text in texts for word in text.split()}))


def _draw_curves(cases: DataFrame) -> DataFrame:
    """One row per curve, budget and metric; the clean scores are every curve's point at 0.

    A curve's clean point rests on the cases that were attacked, so that its fall is theirs.
    """
    eps = eps_names(zip(cases["budget_kind"], cases["budget"].tolist(), strict=True))
    cases = cases.assign(group_id=cases["group_id"].factorize(sort=True)[0])  # numbers are quicker
    points = []
    for _, subject in cases.groupby(_SUBJECT, sort=True):
        clean = subject[subject["attack"] == CLEAN]
        attacked = subject[subject["attack"] != CLEAN]
        for key, curve in (clean if attacked.empty else attacked).groupby(_CURVE, sort=True):
            start = clean[clean["case_id"].isin(curve["case_id"])]
            start = curve[curve["budget"] == 0] if start.empty else start
            before = start.set_index("case_id")[[*METRICS]]
            attacks = curve[curve["budget"] > 0]
            for budget in [0.0, *sorted(set(attacks["budget"].tolist()))]:
                point = attacks[attacks["budget"] == budget] if budget else start
                facts = {**dict(zip(_CURVE, key, strict=True)), "budget": budget}
                facts["eps"] = eps[facts["budget_kind"], budget] if budget else "0"
                points += [{**facts, **measured} for measured in _measure(point, before)]
    return DataFrame(points)


def _measure(point: DataFrame, clean: DataFrame) -> Iterator[dict[str, Any]]:
    """Every metric that is defined at one point of a curve; ``clean`` has a line per case."""
    before = clean.reindex(point["case_id"])  # the same cases
    groups = point["group_id"].to_numpy()
    words = {"precision": _phrases(point["precision"]), "marks": _words(point["marks"])}
    for metric in METRICS:
        values = point[metric].to_numpy()
        interval = mean_interval(values, groups)
        if interval.cases:
            yield {
                "metric": metric,
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "relative_drop": math.nan
                if metric == "hd95"  # a distance: it rises, and without bound
                else _relative_drop(before[metric].to_numpy(), values),
                "cases": interval.cases,
                "groups": interval.groups,
                **words,
            }


def _relative_drop(clean: NDArray[np.float64], adversarial: NDArray[np.float64]) -> float:
    """(clean - adversarial) / clean of the means over the cases that both have; each (N,)."""
    both = ~np.isnan(clean) & ~np.isnan(adversarial)
    if not clean[both].sum() > 0:
        return math.nan
    return float(1 - adversarial[both].mean() / clean[both].mean())


def _summarise(curves: DataFrame) -> DataFrame:
    """One row per curve, of Jaccard: its point at every eps, the fall at the largest, the area."""
    jaccard = curves[curves["metric"] == "jaccard"]
    lines = []
    for key, curve in jaccard.groupby(_CURVE, sort=True):
        line: dict[str, Any] = dict(zip(_CURVE, key, strict=True))
        line |= {"cases": curve["cases"].min(), "groups": curve["groups"].min()}
        for point in curve.to_dict("records"):
            name = point["eps"] if point["budget"] else CLEAN
            line |= {name: point["mean"], f"{name}_low": point["low"]}
            line |= {f"{name}_high": point["high"]}
        budgets = curve["budget"].tolist()
        line |= {
            "largest_eps": budgets[-1],
            "relative_drop": curve["relative_drop"].iloc[-1] if budgets[-1] else math.nan,
            "auc": _area(budgets, curve["mean"].tolist()),
            "precision": _phrases(curve["precision"]),
            "marks": _words(curve["marks"]),
        }
        lines.append(line)
    names = [CLEAN, *_eps_in_order(jaccard)]
    points = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    ends = ["largest_eps", "relative_drop", "auc", "precision", "marks"]
    return DataFrame(lines, columns=[*_CURVE, "cases", "groups", *points, *ends])


def _eps_in_order(curves: DataFrame) -> list[str]:
    """The names of all budgets but 0, ascending; severities, on a scale of their own, last."""
    attacked = curves.loc[curves["budget"] > 0, ["budget_kind", "budget", "eps"]]
    ordered = attacked.assign(severe=attacked["budget_kind"] == "severity").sort_values(
        ["severe", "budget"], kind="stable"
    )
    return [str(name) for name in ordered["eps"].drop_duplicates()]


def _area(budgets: list[float], means: list[float]) -> float:
    """Mean height of the curve from 0 to its largest eps or severity, on a linear axis."""
    if budgets[0] != 0 or budgets[-1] == 0:
        return math.nan
    return float(trapezoid(means, budgets) / budgets[-1])


def _parameters(rows: DataFrame) -> dict[str, Any]:
    """Attack label -> its complete parameters."""
    pairs = _pairs(rows, "attack", "attack_params").items()
    return {label: json.loads(params) for label, params in pairs if label != CLEAN}


def _seeds(rows: DataFrame) -> dict[tuple[str, str], list[int]]:
    """(model, attack) -> its attack seeds, where there are several."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for model, attack, seed in zip(rows["model"], rows["attack"], rows["seed"], strict=True):
        seeds.setdefault((model, attack), set()).add(seed)
    return {key: sorted(values) for key, values in sorted(seeds.items()) if len(values) > 1}


def _trace(rows: DataFrame, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Where the rows came from."""
    cells = set(rows["cell"])
    used = [r for r in runs.values() if "cells" not in r or not cells.isdisjoint(r["cells"])]
    versions: dict[str, set[str]] = {}
    for run in used:
        for package, version in run.get("versions", {}).items():
            versions.setdefault(package, set()).add(str(version))
    return {
        "weights": _pairs(rows, "model", "weights_sha256"),
        "datasets": _pairs(rows, "dataset", "dataset_fingerprint"),
        "devices": sorted(set(rows["device"])),
        "precisions": sorted(set(rows["precision"])),
        "versions": {package: sorted(found) for package, found in sorted(versions.items())},
        "git_commits": sorted({str(run["git_commit"]) for run in used if run.get("git_commit")}),
    }


def _pairs(rows: DataFrame, name: str, value: str) -> dict[str, str]:
    pairs = rows[[name, value]].drop_duplicates().sort_values(name)
    return dict(zip(pairs[name], pairs[value], strict=True))
