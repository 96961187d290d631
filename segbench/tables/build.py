"""Rows to tables: cases, curves and their summary, computed once for every report and the gate.

Order of averaging: over the classes of a case (NaN, a class its label lacks, is skipped), then over
attack seeds, then over cases. Intervals resample groups, see ``stats.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series, concat
from scipy.integrate import trapezoid

from segbench.api import Tables
from segbench.errors import UserError
from segbench.metrics.stats import mean_interval
from segbench.plugins.naming import CLEAN, eps_names
from segbench.store.diagnoses import Diagnosis
from segbench.store.runs import RunRecord
from segbench.tables.comparisons import compare_models
from segbench.tables.diagnoses import describe_diagnoses, mark_untrusted
from segbench.tables.labels import name_apart
from segbench.tables.minnorm import KIND, curve_points, describe_distances, summarise_distances
from segbench.tables.notes import collect_notes, describe_left_out
from segbench.tables.seed_spread import describe_apart, spread_over_seeds
from segbench.tables.shown import Shown
from segbench.tables.stuck import describe_stuck, mark_stuck
from segbench.tables.transfers import transfer_matrices
from segbench.tables.worst import FOUND_AT, describe_worst, worst_cases

METRICS = (
    "jaccard", "dice", "accuracy", "sensitivity", "specificity", "nsd", "hd95", "target_jaccard",
)  # fmt: skip
_SUBJECT = [
    "model", "network_sha256", "weights_sha256", "dataset", "dataset_fingerprint", "split",
]  # fmt: skip
Depth = Literal["cases", "means", "all"]
_CURVE = [*_SUBJECT, "attack", "attack_params", "budget_kind"]
_CASE = [*_CURVE, "budget", "case_id", "group_id"]
_MEANS = [*METRICS, "linf", "l2", "forwards", "backwards", "zero_gradients", "seconds"]
_WORDS = ("precision", "device", "marks")


def build_tables(
    rows: DataFrame,
    *,
    shown: Shown | None = None,
    current: Mapping[str, str] | None = None,
    strict: bool = False,
    runs: Sequence[RunRecord] = (),
    diagnoses: Sequence[Diagnosis] = (),
    damaged: Sequence[str] = (),
    depth: Depth = "all",
) -> Tables:
    """All tables of stored rows, as they bear their names.

    Args:
        rows: the rows to show, as ``read_rows`` gives them and ``shown.py`` chooses and names them.
        shown: what was left out in choosing them.
        current: model -> SHA-256 of the weights it has by now, where that is known.
        strict: whether rows of other weights than those are left out.
        runs: from ``read_runs``, for the provenance.
        diagnoses: from ``read_diagnoses``: their findings, and marks on rows not to be trusted.
        damaged: sentences about files that could not be read.
        depth: how much is computed: ``cases`` alone, for the gate; of curves the ``means`` without
            their intervals, nor pairs of networks, for a terminal; or all, for a report. What is
            not computed is empty, or NaN.

    Raises:
        UserError: there are no rows, or none of current weights.
    """
    shown = shown or Shown(rows)
    retrained = _retrained(rows, current or {})
    if strict:
        rows = rows[~rows["model"].isin(retrained)]
    if rows.empty:
        raise UserError(_nothing_to_show(retrained if strict else ()))
    notes = [
        *(f"Left out: {sentence}" for sentence in damaged),
        *describe_left_out(shown, retrained, left_out=strict),
    ]
    rows = mark_untrusted(rows, diagnoses)
    return _tabulate(rows, notes, shown.settings, runs, diagnoses, depth)


def _tabulate(
    rows: DataFrame,
    first_notes: Sequence[str],
    settings: Mapping[str, str],
    runs: Sequence[RunRecord],
    diagnoses: Sequence[Diagnosis],
    depth: Depth,
) -> Tables:
    """What is made of the rows that are shown."""
    named = name_apart(rows)
    seeded = _average_classes(named)
    distances = summarise_distances(seeded, _CURVE)
    points = concat([seeded, curve_points(seeded, _SUBJECT, METRICS)], ignore_index=True)
    averaged = _average_seeds(points)
    cases = averaged[averaged["budget_kind"] != KIND].reset_index(drop=True)
    if depth == "cases":
        nothing = DataFrame()
        return Tables(rows, cases, nothing, nothing, nothing, nothing, nothing)
    worst = worst_cases(cases, _SUBJECT)
    stuck = describe_stuck(cases, worst, _SUBJECT)
    cases = mark_stuck(cases, _SUBJECT)
    everything = concat([cases, worst.drop(columns=FOUND_AT)], ignore_index=True)
    curves = _draw_curves(everything, intervals=depth == "all")
    summary = _summarise(curves)
    return Tables(
        rows=rows.reset_index(drop=True),
        cases=cases,
        curves=curves,
        summary=summary,
        distances=distances,
        seeds=spread_over_seeds(curves, settings),
        comparisons=compare_models(everything if depth == "all" else everything.head(0), settings),
        transfers=list(transfer_matrices(curves)),
        notes=[
            *first_notes,
            *describe_diagnoses(rows, named, diagnoses),
            *describe_apart(curves["model"].unique(), settings),
            *stuck,
            *collect_notes(cases, curves, summary, _seeds(named)),
            *describe_worst(worst),
            *describe_distances(distances),
        ],
        attacks=_parameters(named),
        provenance=_trace(named, runs),
    )


def _retrained(rows: DataFrame, current: Mapping[str, str]) -> list[str]:
    """The models whose checkpoint has other weights by now than those the rows are of."""
    pairs = rows[["model", "weights_sha256"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted({model for model, weights in pairs if current.get(model, weights) != weights})


def _nothing_to_show(retrained: Sequence[str]) -> str:
    if retrained:
        return (
            f"all scores to be shown are of older weights of {', '.join(retrained)}; run "
            "`segbench attack` again"
        )
    return "the store holds no scores of what was asked for; run `segbench attack` again"


def _average_classes(rows: DataFrame) -> DataFrame:
    """One row per case and attack seed: mean over classes; false positives are summed."""
    keys = [*_CASE, "seed"]
    by_seed = rows.groupby(keys, sort=True)
    scores = by_seed[_MEANS].mean()
    scores["false_positives"] = by_seed["false_positives"].sum()
    for column in _WORDS:
        scores[column] = _join_words(rows, keys, column)
    return scores.reset_index()


def _average_seeds(scores: DataFrame) -> DataFrame:
    """One row per case: mean over its attack seeds."""
    by_case = scores.groupby(_CASE, sort=True)
    cases = by_case[[*_MEANS, "false_positives"]].mean()
    cases["seeds"] = by_case.size()
    for column in _WORDS:
        cases[column] = _join_words(scores, _CASE, column)
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


def _draw_curves(cases: DataFrame, *, intervals: bool) -> DataFrame:
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
                points += [{**facts, **measured} for measured in _measure(point, before, intervals)]
    return DataFrame(points)


def _measure(point: DataFrame, clean: DataFrame, intervals: bool) -> Iterator[dict[str, Any]]:
    """Every metric that is defined at one point of a curve; ``clean`` has a line per case."""
    before = clean.reindex(point["case_id"])  # the same cases
    groups = point["group_id"].to_numpy()
    words = {"precision": _phrases(point["precision"]), "marks": _words(point["marks"])}
    for metric in METRICS:
        values = point[metric].to_numpy()
        interval = mean_interval(values, groups, bounds=intervals)
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


def _trace(rows: DataFrame, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Where the rows came from."""
    computed = set(rows["run"])
    used = [run for run in runs if run.number in computed]
    versions: dict[str, set[str]] = {}
    for run in used:
        for package, version in run.versions.items():
            versions.setdefault(package, set()).add(version)
    commits = {
        f"{code.commit}{' (with changes)' if code.dirty else ''}"
        for run in used
        for code in run.code
    }
    return {
        "weights": _pairs(rows, "model", "weights_sha256"),
        "datasets": _pairs(rows, "dataset", "dataset_fingerprint"),
        "devices": sorted(set(rows["device"])),
        "precisions": sorted(set(rows["precision"])),
        "versions": {package: sorted(found) for package, found in sorted(versions.items())},
        "git_commits": sorted(commits),
        "runs": sorted({run.run_id for run in used}),
    }


def _pairs(rows: DataFrame, name: str, value: str) -> dict[str, str]:
    pairs = rows[[name, value]].drop_duplicates().sort_values(name)
    return dict(zip(pairs[name], pairs[value], strict=True))
