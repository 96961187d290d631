"""Rows to cases: over the classes of a case, then over attack seeds.

NaN, a class that the label lacks, is skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.metrics.numbering import first_of, number_of
from segbench.tables.curves import METRICS
from segbench.tables.lesions import with_lesions
from segbench.tables.minnorm import KIND, curve_points, list_falls, summarise_distances
from segbench.tables.texts import join_words, plain_texts, stack
from segbench.tables.unmeasured import ON_REQUEST

SUBJECT = [
    "model", "network_sha256", "weights_sha256", "dataset", "dataset_fingerprint", "split",
]  # fmt: skip
"""The columns that name a network and its data."""

CURVE = [*SUBJECT, "attack", "attack_params", "budget_kind"]
CASE = [*CURVE, "budget", "case_id", "group_id"]
_MEANS = [*METRICS, "linf", "l2", "forwards", "backwards", "zero_gradients", "late_gain", "seconds"]
_WORDS = ("precision", "device", "marks", "member", "attack_sha256")


def cases_of(named: DataFrame) -> tuple[DataFrame, DataFrame, DataFrame]:
    """One row per case, one per minimum-norm attack, and one per case that it was to bring down."""
    seeded = _average_classes(with_lesions(named))
    distances = plain_texts(summarise_distances(seeded, CURVE))
    falls = plain_texts(list_falls(seeded, CURVE))
    points = stack([seeded, curve_points(seeded, SUBJECT, METRICS)])
    del seeded
    averaged = _average_seeds(points)
    certain = averaged["budget_kind"] != KIND
    if not certain.all():
        averaged = averaged[certain].reset_index(drop=True)
    return averaged, distances, falls


def _average_classes(rows: DataFrame) -> DataFrame:
    """One row per case and attack seed: mean over classes; what is counted is summed."""
    scores, number = _averaged(rows, [*CASE, "seed"], _MEANS)
    for counted in ("false_positives", "lesions_false"):
        values = rows[counted]
        if values.isna().all():
            scores[counted] = np.nan
        elif len(scores) == len(rows):
            scores[counted] = values.to_numpy()[first_of(number)]
        else:
            scores[counted] = values.groupby(number).sum(min_count=1).to_numpy()
    return scores


def _average_seeds(scores: DataFrame) -> DataFrame:
    """One row per case: mean over its attack seeds, of which all or none were measured."""
    cases, number = _averaged(scores, CASE, [*_MEANS, "false_positives"])
    for metric in ON_REQUEST:
        if (lacks := scores[metric].isna().to_numpy()).any():
            seedless = np.bincount(number, lacks, len(cases)) > 0
            cases[metric] = cases[metric].where(~seedless)
    return cases.assign(seeds=np.bincount(number))


def _averaged(
    rows: DataFrame, keys: list[str], means: list[str]
) -> tuple[DataFrame, NDArray[np.int64]]:
    """One row per combination of keys, in order, and the number of each row's; words are joined."""
    number = number_of(rows, keys)
    if np.array_equal(number, np.arange(len(rows))):  # nothing to average, and nothing is copied
        own = {name: rows[name] for name in (*keys, *means, *_WORDS)}
        whole = DataFrame(own, copy=False).reset_index(drop=True)
        return whole.astype(dict.fromkeys(means, np.float64)), number
    first = first_of(number)
    single = len(first) == len(rows)  # then there is nothing to average
    measured = [column for column in means if not rows[column].isna().all()]
    averaged = rows[measured].iloc[first] if single else rows[measured].groupby(number).mean()
    columns: dict[str, Any] = {name: rows[name].array.take(first) for name in keys}
    for name in means:
        columns[name] = averaged[name].to_numpy(np.float64) if name in averaged else np.nan
    for name in _WORDS:
        if single or rows[name].nunique() == 1:
            columns[name] = rows[name].array.take(first)
        else:
            columns[name] = join_words(number, rows[name])
    return DataFrame(columns, copy=False), number
