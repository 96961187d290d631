"""Lesion-wise rates from the counts that are stored; see ``metrics/lesions.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pandas import DataFrame

LESION_METRICS = ("lesion_sensitivity", "lesion_f1", "lesions_false")


def with_lesions(rows: DataFrame) -> DataFrame:
    """The rows with ``lesion_sensitivity`` and ``lesion_f1``.

    NaN where the label has no lesion, as every overlap metric, and where none were counted.
    """
    if rows["lesion_overlap"].isna().all():
        return rows.assign(lesion_sensitivity=float("nan"), lesion_f1=float("nan"))
    there = rows["lesions"].where(rows["lesions"] > 0)
    found, false = rows["lesions_found"], rows["lesions_false"]
    return rows.assign(
        lesion_sensitivity=found / there, lesion_f1=2 * found / (there + found + false)
    )


def describe_lesions(overlaps: Sequence[float]) -> Iterator[str]:
    """What lesions are and when one is found, where they were counted; at which overlaps."""
    if overlaps:
        yield (
            "Lesions are the connected components of a structure, across corners too (8 neighbours "
            "of a pixel, 26 of a voxel). A component of the prediction finds a lesion where their "
            f"intersection over union is above {' or '.join(f'{at:g}' for at in overlaps)}; each "
            "stands for one at most, and as many are paired as can be. lesion_sensitivity is the "
            "share of lesions found, lesions_false the number of predicted components in a case "
            "that find none, and lesion_f1 is 2 found / (lesions + predicted components): by "
            "structure and case, then the mean (the sum, for lesions_false, over structures)."
        )
    if len(overlaps) > 1:
        yield (
            "Lesions were counted at several overlaps, and such rates do not compare: run "
            "`segbench attack --lesions` with one of them again."
        )
