"""In what unit distances between boundaries are; see ``metrics/boundary.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pandas import DataFrame

Units = Mapping[str, frozenset[str]]
"""Data set and split -> the units of its cases' distances."""

_UNTOLD = "mm or pixels"  # rows of before that was stored


def units_of(rows: DataFrame) -> dict[str, frozenset[str]]:
    """The units of the rows whose boundaries were measured."""
    measured = rows.loc[rows["nsd_tolerance"].notna(), ["dataset", "split", "pixel_mm"]]
    known = measured["pixel_mm"].gt(0).map({True: "mm", False: "pixels"})
    named = measured.assign(unit=known.where(measured["pixel_mm"].notna(), _UNTOLD))
    groups = named.groupby(["dataset", "split"], sort=True, observed=True)["unit"]
    return {f"{dataset} {split}": frozenset(units) for (dataset, split), units in groups}


def describe_boundaries(units: Units) -> Iterator[str]:
    """What the boundary metrics are, where they were measured."""
    if units:
        told = [f"{' and '.join(sorted(own))} on {where}" for where, own in sorted(units.items())]
        yield (
            "hd95 is the 95th percentile of the distances between the two surfaces, both ways, in "
            f"{', '.join(told)}, and the image diagonal where the structure was lost; "
            "nsd is the share of both surfaces that lies within the tolerance of the other: 1 mm "
            "or one pixel, whichever is longer, unless the data set says otherwise."
        )


def mixed_units(units: Units) -> Iterator[str]:
    """Where a mean is of distances that do not add up."""
    for where, own in sorted(units.items()):
        if {"mm", "pixels"} <= own:
            yield (
                f"{where}: hd95 is in mm for some cases and in pixels for others, whose spacing "
                "the data set does not say; its means have no unit."
            )
