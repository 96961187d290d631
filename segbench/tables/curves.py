"""Cases to curves, and curves to one line each.

A curve is one model, data set, attack and kind of budget. Its clean point rests on the cases that
were attacked, so that its fall is theirs. Certificates, of another network, have no such point.
Everything is computed for all points at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, concat
from pandas.util import hash_array

from segbench.metrics.area import mean_height
from segbench.metrics.numbering import number_of
from segbench.metrics.stats import Grouped, Intervals, Range
from segbench.plugins.naming import CLEAN, eps_names
from segbench.store.rowfile import CERTIFIED
from segbench.tables.certified import is_certified
from segbench.tables.texts import join_words, phrases, stack, words
from segbench.tables.unmeasured import ON_REQUEST, lacking, partly

METRICS = (
    "jaccard", "dice", "accuracy", "sensitivity", "specificity", "nsd", "hd95",
    "lesion_sensitivity", "lesion_f1", "lesions_false", "target_jaccard", *CERTIFIED,
)  # fmt: skip
RANGES: dict[str, Range] = {"hd95": "distance", "lesions_false": "distance"}
"""What each metric's values are, where it is no share."""

DECILE = 0.1
"""The share of cases whose mean is the worst decile of a point."""

_ENDS = ["eps", "budget", "mean", "low", "high"]
_POINT = [
    "mean", "low", "high", "relative_drop", "worst_decile", "cases", "over", "groups", "doubt",
]  # fmt: skip
Array = NDArray[np.float64]
Codes = NDArray[np.int64]


def draw_curves(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per curve, budget and metric; the clean scores are every curve's point at 0.

    Args:
        cases: one row per case, clean ones and attacked ones; metrics that nobody asked for may
            be missing; of the worst of several attacks ``met``, see ``worst_cases``. Of those
            measured on request, a point has no mean where only some of its
            images were.
        subject: the columns that name a model and its data.

    Returns:
        ``over`` is equal where two points are over the same cases, and these have met the same.
    """
    curve = [*subject, "attack", "attack_params", "budget_kind"]
    placed, names = _with_starts(cases, subject, curve)
    row = placed["row"].to_numpy()
    points = placed[["curve", "budget"]].drop_duplicates().sort_values(["curve", "budget"])
    points = points.reset_index(drop=True)
    where = number_of(placed, ["curve", "budget"])
    groups = np.asarray(cases["group_id"].factorize(sort=True)[0], np.int64)[row]
    grouped = Grouped(where, groups, len(points))
    before, alike = _before(placed), _alike(cases)[row]
    facts = names.loc[points["curve"]].reset_index(drop=True).assign(budget=points["budget"])
    eps = eps_names(zip(facts["budget_kind"], facts["budget"].tolist(), strict=True))
    pairs = zip(facts["budget_kind"], facts["budget"].tolist(), strict=True)
    facts["eps"] = [eps[kind, budget] if budget else "0" for kind, budget in pairs]
    for column in ("precision", "marks"):
        facts[column] = join_words(where, cases[column].iloc[row])
    parts: dict[str, list[Any]] = {name: [] for name in ("place", "metric", *_POINT)}
    for metric in (name for name in METRICS if name in cases and cases[name].notna().any()):
        values = cases[metric].to_numpy(dtype=np.float64)[row]
        if metric in ON_REQUEST:
            mixed = partly(lacking(cases, metric)[row], ~np.isnan(values), where)
            values = np.where(mixed, math.nan, values)
        found = grouped.intervals(values, RANGES.get(metric, "unit"))
        columns = _columns(metric, found, values, where, before)
        columns["over"] = _over(alike, values, where, len(points))
        place = np.flatnonzero(found.cases)
        columns |= {"place": np.arange(len(points)), "metric": np.full(len(points), metric, object)}
        for name, own in parts.items():
            own.append(columns[name][place])
    every = {name: np.concatenate(own) for name, own in parts.items()}
    order = np.argsort(every["place"], kind="stable")
    ordered = {name: own[order] for name, own in every.items()}
    drawn = facts.iloc[ordered.pop("place")].reset_index(drop=True).assign(**ordered)
    return drawn[[*curve, "budget", "eps", "metric", *_POINT, "precision", "marks"]]


def summarise(curves: DataFrame) -> DataFrame:
    """One row per curve, of Jaccard: its point at every eps, the fall at the largest, the area."""
    curve = [*curves.columns[: curves.columns.get_loc("budget")]]
    jaccard = curves[curves["metric"] == "jaccard"]
    values = {str(name): jaccard[name].to_numpy().tolist() for name in jaccard}
    by_curve: dict[tuple[Any, ...], list[int]] = {}
    for place, key in enumerate(zip(*(values[name] for name in curve), strict=True)):
        by_curve.setdefault(key, []).append(place)
    lines = []
    for key, places in sorted(by_curve.items()):
        part = {name: [own[place] for place in places] for name, own in values.items()}
        line: dict[str, Any] = dict(zip(curve, key, strict=True))
        line |= {name: min(part[name]) for name in ("cases", "groups")}
        budgets, means = part["budget"], part["mean"]
        for eps, budget, *ends in zip(*(part[name] for name in _ENDS), strict=True):
            name = eps if budget else CLEAN
            line |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        line["over"] = _over_all(part["eps"], part["over"])
        line |= {
            "largest_eps": budgets[-1],
            "relative_drop": part["relative_drop"][-1] if budgets[-1] else math.nan,
            "worst_decile": part["worst_decile"][-1],
            "auc": _area(budgets, means),
            "half_eps": _half(budgets, means),
            "precision": phrases(part["precision"]),
            "marks": words(part["marks"]),
            "doubt": words(part["doubt"]),
        }
        lines.append(line)
    names = [CLEAN, *_eps_in_order(jaccard)]
    points = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    ends = ["largest_eps", "relative_drop", "worst_decile", "auc", "half_eps", "precision"]
    return DataFrame(
        lines, columns=[*curve, "cases", "over", "groups", *points, *ends, "marks", "doubt"]
    )


def _with_starts(
    cases: DataFrame, subject: Sequence[str], curve: Sequence[str]
) -> tuple[DataFrame, DataFrame]:
    """The points of every curve, the clean ones once for every curve that they begin.

    Returns:
        A line per point and case: its ``row`` in ``cases``, the number of its ``curve`` and of its
        ``case``, and its ``budget``; and the columns ``curve`` by that number.
    """
    numbers = DataFrame(
        {
            "row": np.arange(len(cases)),
            "subject": number_of(cases, subject),
            "case": cases["case_id"].factorize()[0],
            "budget": cases["budget"].to_numpy(),
        }
    )
    is_clean = (cases["attack"] == CLEAN).to_numpy()
    certified = is_certified(cases).to_numpy()
    clean, attacked = numbers[is_clean], numbers[~is_clean & ~certified]
    bare = concat([clean[~clean["subject"].isin(attacked["subject"])], numbers[certified]])
    own = stack([attacked, bare]) if len(bare) else attacked
    named = cases[[*curve]].iloc[own["row"]]
    own = own.assign(curve=number_of(named, curve))
    first = own.iloc[: len(attacked)].drop_duplicates(["curve", "case"])
    start = clean.drop(columns="budget").merge(
        first[["curve", "subject", "case"]], on=["subject", "case"]
    )
    unmatched = (own["budget"] > 0) | ~own["curve"].isin(start["curve"])
    columns = ["row", "curve", "case", "budget"]
    placed = stack([start.assign(budget=0.0)[columns], own.loc[unmatched, columns]])
    of_curve = own.drop_duplicates("curve")
    return placed, cases[[*curve]].iloc[of_curve["row"]].set_index(of_curve["curve"].to_numpy())


def _before(placed: DataFrame) -> Codes:
    """For each row the place of the same case's row at budget 0 of its curve, -1 for none."""
    keys = placed["curve"].to_numpy(np.int64) * (int(placed["case"].max()) + 1)
    keys = keys + placed["case"].to_numpy(np.int64)
    starts = np.flatnonzero(placed["budget"].to_numpy() == 0)
    if not len(starts):
        return np.full(len(placed), -1, np.int64)
    ordered = starts[np.argsort(keys[starts], kind="stable")]
    found = np.minimum(np.searchsorted(keys[ordered], keys), len(ordered) - 1)
    return np.where(keys[ordered[found]] == keys, ordered[found], -1)


def _alike(cases: DataFrame) -> NDArray[np.uint64]:
    """A number of each row (N,): the same for one case that has met the same."""
    case, names = cases["case_id"].factorize()
    hashes = hash_array(np.asarray(names, object).astype(str).astype(object))[case]
    return hash_array(hashes + 3 * cases["met"].to_numpy(np.uint64)) if "met" in cases else hashes


def _over(
    alike: NDArray[np.uint64], values: Array, where: Codes, points: int
) -> NDArray[np.object_]:
    """What each point (P,) is over, as a word: of all that have a value, in any order."""
    defined = ~np.isnan(values)
    total = np.zeros(points, np.uint64)
    np.add.at(total, where[defined], alike[defined])
    return np.array([f"{number:016x}" for number in total.tolist()], object)


def _over_all(eps: Sequence[str], over: Sequence[str]) -> str:
    """What a curve is over: the same as each of its points where these are over the same."""
    if len(set(over)) == 1:
        return over[0]
    points = [f"{name} {own}" for name, own in zip(eps, over, strict=True)]
    return f"{hash_array(np.array([' '.join(points)], object))[0]:016x}"


def _columns(
    metric: str, found: Intervals, values: Array, where: Codes, before: Codes
) -> dict[str, Any]:
    """What a metric's rows of ``curves`` hold beside the facts of their points."""
    points = len(found.mean)
    none = np.full(points, math.nan)
    start = np.where(before >= 0, values[before], math.nan)
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "relative_drop": none  # of a distance: it rises, and without bound
        if metric in RANGES
        else _relative_drop(start, values, where, points),
        "worst_decile": _lowest(values, where, points) if metric == "jaccard" else none,
        "cases": found.cases,
        "groups": found.groups,
        "doubt": found.doubt,
    }


def _relative_drop(start: Array, values: Array, where: Codes, points: int) -> Array:
    """(clean - adversarial) / clean of the means over the cases (N,) that both have; (P,)."""
    both = ~np.isnan(start) & ~np.isnan(values)
    clean = np.bincount(where[both], weights=start[both], minlength=points)
    attacked = np.bincount(where[both], weights=values[both], minlength=points)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(clean > 0, 1 - attacked / clean, math.nan)


def _lowest(values: Array, where: Codes, points: int) -> Array:
    """The mean of each point's lowest tenth of values, of one at least; (P,)."""
    defined = ~np.isnan(values)
    values, where = values[defined], where[defined]
    order = np.argsort(where, kind="stable")
    values, where = values[order], where[order]
    cases = np.bincount(where, minlength=points)
    ends = np.cumsum(cases)
    for start, end in zip((ends - cases).tolist(), ends.tolist(), strict=True):
        values[start:end].sort()
    rank = np.arange(len(values)) - (ends - cases)[where]
    low = rank < np.ceil(DECILE * cases)[where]
    counted = np.bincount(where[low], minlength=points)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(where[low], values[low], minlength=points) / counted)


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
    return float(mean_height(means, budgets))


def _half(budgets: list[float], means: list[float]) -> float:
    """The smallest budget at which the mean is half of the clean one, between points on a line.

    Infinite where it never is; NaN without a clean point.
    """
    if budgets[0] != 0 or budgets[-1] == 0:
        return math.nan
    half = means[0] / 2
    for place in range(1, len(budgets)):
        if means[place] <= half < means[place - 1]:
            part = (means[place - 1] - half) / (means[place - 1] - means[place])
            return budgets[place - 1] + part * (budgets[place] - budgets[place - 1])
    return math.inf
