"""Minimum-norm attacks in tables: how far each case was from falling, and points of a curve.

A minimum-norm cell stores one image per case, the nearest that brings its Jaccard below a
threshold, and its distances. From these follow the distribution of distances, and the score at any
eps of the same norm: the adversarial one where the distance is at most eps, else the clean one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from segbench.metrics.quantiles import quantile_interval
from segbench.plugins.naming import CLEAN
from segbench.tables.texts import few, stack

KIND = "min-norm"
QUANTILES = {"quartile_low": 0.25, "median": 0.5, "quartile_high": 0.75}
ENDS = [f"{name}{end}" for name in QUANTILES for end in ("", "_low", "_high")]
DISTANCES = ("norm", "below", "cases", "groups", "seeds", "fell", "fell_share", "at_once", *ENDS)
"""The columns of a table of distances, after those that name the attack."""

_ROUNDING = 1e-6  # of a distance: an attack that is told to stay within eps may be as inexact


def summarise_distances(cases: DataFrame, names: Sequence[str]) -> DataFrame:
    """One row per minimum-norm attack: ``names`` then ``DISTANCES``.

    Whether and where a case fell is decided for each attack seed by itself: the mean of two
    distances is the distance of no image. A quantile is the distance within which that share of all
    (case, seed) has fallen; infinite where fewer ever did; ``_low`` and ``_high`` are the ends of
    its 95 % interval over groups. ``fell`` counts (case, seed), and ``at_once`` those of them
    that lay below the threshold before anything was changed.

    Args:
        cases: one row per case and attack seed.
        names: the columns that name an attack and what it attacked.
    """
    lines = []
    for key, part in _stored(cases, [*names, "budget"]):
        name, below = key[:-1], float(part["budget"].iloc[0])
        fallen = has_fallen(part, below)
        distances = np.where(fallen, part[_norm(part)], np.inf)
        members = part["group_id"].to_numpy()
        found = [quantile_interval(distances, members, level) for level in QUANTILES.values()]
        lines.append(
            {
                **dict(zip(names, name, strict=True)),
                "norm": _norm(part),
                "below": below,
                "cases": part["case_id"].nunique(),
                "groups": part["group_id"].nunique(),
                "seeds": part["seed"].nunique(),
                "fell": int(fallen.sum()),
                "fell_share": float(fallen.mean()),
                "at_once": int((distances == 0).sum()),
                **dict(zip(ENDS, (value for ends in found for value in ends), strict=True)),
            }
        )
    return DataFrame(lines, columns=[*names, *DISTANCES])


def list_falls(cases: DataFrame, names: Sequence[str]) -> DataFrame:
    """One row per minimum-norm attack, case and attack seed: where it fell, infinity for nowhere.

    Args:
        cases: one row per case and attack seed.
        names: the columns that name an attack and what it attacked.

    Returns:
        ``names``, ``norm``, ``below``, ``distance``, ascending for each attack.
    """
    parts = []
    for _, part in _stored(cases, [*names, "budget"]):
        below = float(part["budget"].iloc[0])
        distance = np.where(has_fallen(part, below), part[_norm(part)], np.inf)
        facts = part[[*names]].assign(norm=_norm(part), below=below, distance=distance)
        parts.append(facts.sort_values("distance", kind="stable"))
    return stack(parts) if parts else DataFrame(columns=[*names, "norm", "below", "distance"])


def curve_points(cases: DataFrame, subject: Sequence[str], metrics: Sequence[str]) -> DataFrame:
    """Minimum-norm attacks as norm-bounded ones: a row per case, attack seed and eps.

    At the eps values that other attacks of the same norm have on the same data set and split. A
    case without a clean score has no points.

    Args:
        cases: one row per case and attack seed; the points have its columns.
        subject: the columns that name a model and its data.
        metrics: the columns that are scores.
    """
    points = [
        _points(part, clean, eps, metrics)
        for part, clean, eps in _attacks(cases, subject)
        if eps and not clean.empty
    ]
    return stack(points) if points else cases.iloc[:0]


def describe_distances(distances: DataFrame) -> Iterator[str]:
    """How to read the points and the distances, where there are any."""
    if not distances.empty:
        yield (
            "A minimum-norm attack stops where a case falls below its threshold; its point at an "
            "eps is the mean of the adversarial score of cases that fell within eps and of the "
            "clean score of the others. A quantile is the distance within which that share of all "
            "cases fell."
        )
    early = [
        f"{line['at_once']} of {line['fell']} of {line['model']} under {line['attack']}"
        for line in distances[distances["at_once"] > 0].to_dict("records")
    ]
    if early:
        yield (
            "Of the cases that fell, these lay below the threshold before anything was changed, at "
            f"distance 0: {few(early)}."
        )


def has_fallen(cases: DataFrame, below: float) -> NDArray[np.bool_]:
    """Which cases (N,) score below the threshold: by Jaccard, or 1 minus the target's agreement.

    Accuracy stands in for the Jaccard of a case whose label has no foreground.
    """
    score = cases["jaccard"].fillna(cases["accuracy"])
    score = (1 - cases["target_jaccard"]).fillna(score)
    fallen: NDArray[np.bool_] = (score < below).to_numpy()
    return fallen


def _norm(cases: DataFrame) -> str:
    """``linf`` or ``l2``: the attack's own parameter of that name."""
    parameters: Mapping[str, Any] = json.loads(cases["attack_params"].iloc[0])
    return str(parameters["norm"])


def _stored(cases: DataFrame, keys: list[str]) -> Iterator[tuple[Any, DataFrame]]:
    """The rows of each minimum-norm attack, where there are any."""
    stored = cases[cases["budget_kind"] == KIND]
    if len(stored):
        yield from stored.groupby(keys, sort=True)


def _attacks(
    cases: DataFrame, subject: Sequence[str]
) -> Iterator[tuple[DataFrame, DataFrame, list[float]]]:
    """Each attack's cases, their clean scores by case, and the eps values of its norm."""
    where = ["dataset", "dataset_fingerprint", "split"]
    for key, part in _stored(cases, [*subject, "attack", "attack_params", "budget"]):
        own = _equal(cases, subject, key[: len(subject)])
        clean = own[own["attack"] == CLEAN].set_index("case_id")
        same_data = _equal(cases, where, part[where].iloc[0])
        kind = same_data[(same_data["budget_kind"] == _norm(part)) & (same_data["budget"] > 0)]
        yield part, clean, sorted(set(kind["budget"].tolist()))


def _points(
    part: DataFrame, clean: DataFrame, eps: Sequence[float], metrics: Sequence[str]
) -> DataFrame:
    """One row per case that has a clean score, and eps."""
    norm, below = _norm(part), part["budget"].iloc[0]
    part = part[part["case_id"].isin(clean.index)]
    start = clean.loc[part["case_id"]]
    points = []
    for value in eps:
        near = part[norm].to_numpy() <= value * (1 + _ROUNDING)
        reached = has_fallen(part, below) & near
        point = part.assign(budget_kind=norm, budget=value)
        for column in [*metrics, "false_positives"]:
            point[column] = np.where(reached, part[column], start[column])
        for column in ("linf", "l2"):
            point[column] = np.where(reached, part[column], 0.0)
        point["late_gain"] = np.nan  # what a search for the distance gained, and no climb at eps
        points.append(point)
    return stack(points)


def _equal(cases: DataFrame, names: Sequence[str], values: Any) -> DataFrame:
    same = Series(True, index=cases.index)
    for name, value in zip(names, values, strict=True):
        same &= cases[name] == value
    return cases[same]
