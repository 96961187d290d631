"""Rows to cases: over the classes of a case, then over attack seeds.

NaN, a class that the label lacks, is skipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.metrics.numbering import number_of
from segbench.tables.curves import METRICS
from segbench.tables.lesions import with_lesions
from segbench.tables.minnorm import KIND, curve_points, summarise_distances
from segbench.tables.texts import join_words, plain_texts, stack

SUBJECT = [
    "model", "network_sha256", "weights_sha256", "dataset", "dataset_fingerprint", "split",
]  # fmt: skip
"""The columns that name a network and its data."""

CURVE = [*SUBJECT, "attack", "attack_params", "budget_kind"]
CASE = [*CURVE, "budget", "case_id", "group_id"]
_MEANS = [*METRICS, "linf", "l2", "forwards", "backwards", "zero_gradients", "late_gain", "seconds"]
_WORDS = ("precision", "device", "marks", "member")


def cases_of(named: DataFrame) -> tuple[DataFrame, DataFrame]:
    """One row per case, and one per minimum-norm attack."""
    seeded = _average_classes(with_lesions(named))
    distances = plain_texts(summarise_distances(seeded, CURVE))
    points = stack([seeded, curve_points(seeded, SUBJECT, METRICS)])
    del seeded
    averaged = _average_seeds(points)
    certain = averaged["budget_kind"] != KIND
    if not certain.all():
        averaged = averaged[certain].reset_index(drop=True)
    return averaged, distances


def _average_classes(rows: DataFrame) -> DataFrame:
    """One row per case and attack seed: mean over classes; what is counted is summed."""
    scores, number = _averaged(rows, [*CASE, "seed"], _MEANS)
    for counted in ("false_positives", "lesions_false"):
        values = rows[counted]
        nothing = values.isna().all()
        scores[counted] = np.nan if nothing else values.groupby(number).sum(min_count=1).to_numpy()
    return scores


def _average_seeds(scores: DataFrame) -> DataFrame:
    """One row per case: mean over its attack seeds."""
    cases, number = _averaged(scores, CASE, [*_MEANS, "false_positives"])
    return cases.assign(seeds=np.bincount(number))


def _averaged(
    rows: DataFrame, keys: list[str], means: list[str]
) -> tuple[DataFrame, NDArray[np.int64]]:
    """One row per combination of keys, in order, and the number of each row's; words are joined."""
    number = number_of(rows, keys)
    if np.array_equal(number, np.arange(len(rows))):  # nothing to average, and nothing is copied
        columns = {name: rows[name] for name in (*keys, *means, *_WORDS)}
        whole = DataFrame(columns, copy=False).reset_index(drop=True)
        return whole.astype(dict.fromkeys(means, np.float64)), number
    first = np.unique(number, return_index=True)[1]
    found = rows[keys].iloc[first].reset_index(drop=True)
    single = len(first) == len(rows)  # then there is nothing to average
    for column in means:
        values = rows[column]
        if values.isna().all():
            found[column] = np.nan
            continue
        own = values.iloc[first] if single else values.groupby(number).mean()
        found[column] = own.to_numpy(np.float64)
    for column in _WORDS:
        if single or rows[column].nunique() == 1:
            found[column] = rows[column].iloc[first].reset_index(drop=True)
        else:
            said = join_words(rows[[column]].assign(number=number), ["number"], column)
            found[column] = said.reindex(range(len(found)))
    return found, number
