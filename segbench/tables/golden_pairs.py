"""Today's scores beside the golden file's, case by case: a case is a name and its content."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from pandas import factorize

from segbench.metrics.stats import Array, Interval, chances_of_drop, mean_intervals
from segbench.tables.golden_cases import Key, Scores, rounded
from segbench.tables.texts import few

TESTED = 8
"""Effective groups from which on a fall of five tolerances, of a file of one score, is told from
chance nine times in ten, by ``segbench coverage``; of fewer the tolerance alone decides."""


def pair_scores(
    keys: Sequence[Key | None], now: Mapping[Key, Scores], then: Mapping[Key, Scores]
) -> tuple[list[Interval | str | None], Array]:
    """The differences, case by case; in words where the cases are others; None without any.

    And how often chance makes a mean as low, NaN where that cannot be said: of fewer than
    ``TESTED`` groups.
    """
    found: list[Interval | str | None] = [None] * len(keys)
    parts: dict[int, tuple[Array, Sequence[str]]] = {}
    for place, key in enumerate(keys):
        before, after = (then.get(key), now.get(key)) if key else (None, None)
        if before is not None and after is not None:
            difference = _difference(after, before)
            if isinstance(difference, str):
                found[place] = difference
            elif len(difference[0]):
                parts[place] = difference
    chances = np.full(len(keys), math.nan)
    if parts:
        sizes = [len(values) for values, _ in parts.values()]
        groups = factorize(np.array([g for _, own in parts.values() for g in own], object))[0]
        intervals = mean_intervals(
            np.concatenate([values for values, _ in parts.values()]),
            np.repeat(np.arange(len(parts)), sizes),
            groups.astype(np.int64),
            len(parts),
            of="signed",
        )
        tested = np.where(intervals.effective >= TESTED - 0.5, chances_of_drop(intervals), math.nan)
        for number, place in enumerate(parts):
            found[place], chances[place] = intervals.one(number), tested[number]
    return found, chances


def _difference(after: Scores, before: Scores) -> str | tuple[Array, Sequence[str]]:
    """Today's scores, rounded alike, minus those of then, and the groups.

    In words where the cases are others.
    """
    if edited := _edited(after, before):
        return (
            f"{few(edited)} {'hold' if len(edited) > 1 else 'holds'} another image or another "
            "truth than then, or is read in another way"
        )
    defined = ~np.isnan(after.values)
    if after.case_ids == before.case_ids and defined.all():
        return rounded(after.values) - before.values, after.groups
    names = [name for name, there in zip(after.case_ids, defined, strict=True) if there]
    added, gone = set(names) - set(before.case_ids), set(before.case_ids) - set(names)
    if added or gone:
        parts = [f"{len(gone)} are gone"] * bool(gone) + [f"{len(added)} are new"] * bool(added)
        example = sorted(gone or added)[0]
        return f"{' and '.join(parts)}, for example {example}"
    old = dict(zip(before.case_ids, before.values.tolist(), strict=True))
    differences = rounded(after.values[defined]) - np.array(
        [old[name] for name in names], np.float64
    )
    return differences, [g for g, there in zip(after.groups, defined, strict=True) if there]


def _edited(after: Scores, before: Scores) -> list[str]:
    """The cases that bear the same name and are not the same; none where nothing is known."""
    if after.contents == before.contents and after.case_ids == before.case_ids:
        return []
    old = dict(zip(before.case_ids, before.contents, strict=True))
    pairs = zip(after.case_ids, after.contents, strict=True)
    return [name for name, own in pairs if own and old.get(name) and own != old[name]]
