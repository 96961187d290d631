"""Rows under the names that tables show: their cases, and all else that is read off rows alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pandas import DataFrame

from segbench.api import Picture
from segbench.store.diagnoses import Diagnosis
from segbench.store.runs import RunRecord
from segbench.tables import certified
from segbench.tables.attack_code import describe_code
from segbench.tables.averages import cases_of
from segbench.tables.boundaries import Units, units_of
from segbench.tables.diagnoses import Told, describe_diagnoses
from segbench.tables.labels import name_apart
from segbench.tables.notes import describe_confined
from segbench.tables.provenance import parameters_of, seeds_of, trace
from segbench.tables.rounded import describe_rounded
from segbench.tables.structures import by_structure, costs
from segbench.tables.texts import plain_texts, tidy

Depth = Literal["cases", "summary", "curves", "all"]


@dataclass(frozen=True, eq=False)
class Given:
    """What is known beside the rows that are shown; see ``build_tables``."""

    notes: Sequence[str]
    units: Sequence[str]
    settings: Mapping[str, str]
    runs: Sequence[RunRecord]
    diagnoses: Sequence[Diagnosis]
    pictures: Callable[[DataFrame], Sequence[Picture]]
    only: Collection[str] | None


@dataclass(frozen=True, eq=False)
class NamedCases:
    """What is made of rows under their names, which are then let go.

    Of a large grid there is room for one copy of what is not needed, not for three.

    Attributes:
        cases: a row per case.
        distances: a row per minimum-norm attack.
        falls: a row per case of such an attack.
        proved: the rows of certificates.
        structures: a row per scored class; empty but in tables for a page, as are ``costs``.
        costs: what attacks took.
        units: of distances between boundaries.
        overlaps: at which lesions were counted.
        images: see ``describe_confined`` and ``describe_rounded``.
        strayed: what the latter says of images outside their budget.
        edited: see ``describe_code``.
        diagnosed: what ``segbench diagnose`` says of the networks.
        only: see ``build_tables``, here as the tables name them.
        seeds: (model, attack) -> its attack seeds, where there are several.
        whence: the fields of the tables that say where rows came from.
    """

    cases: DataFrame
    distances: DataFrame
    falls: DataFrame
    proved: DataFrame
    structures: DataFrame
    costs: DataFrame
    units: Units
    overlaps: Sequence[float]
    images: Sequence[str]
    strayed: Sequence[str]
    edited: Sequence[str]
    diagnosed: Told
    only: Collection[str] | None
    seeds: Mapping[tuple[str, str], list[int]]
    whence: Mapping[str, Any]


def named_cases(rows: DataFrame, given: Given, depth: Depth) -> NamedCases:
    """The rows as cases, and what else takes the names that tables show."""
    named = name_apart(rows)
    cases, distances, falls = cases_of(named)
    if given.only is not None:
        wanted = rows["model"].isin(given.only)
        rows, named = rows[wanted], named[wanted]
    strayed, reading = describe_rounded(named)
    return NamedCases(
        cases,
        distances,
        falls,
        proved=named[certified.is_certified(named)],
        structures=by_structure(named) if depth == "all" else DataFrame(),
        costs=plain_texts(costs(named)) if depth == "all" else DataFrame(),
        units=units_of(named),
        overlaps=sorted(named["lesion_overlap"].dropna().unique().tolist()),
        images=[*describe_confined(named), *reading],
        strayed=strayed,
        edited=[*describe_code(named)],
        diagnosed=describe_diagnoses(rows, named, given.diagnoses),
        only=None if given.only is None else {*named["model"].astype("str")},
        seeds=seeds_of(named),
        whence=_whence(named, given, depth),
    )


def _whence(named: DataFrame, given: Given, depth: Depth) -> dict[str, Any]:
    """Where the rows came from, which a summary does not say."""
    if depth == "summary":
        return {}
    return {
        "attacks": parameters_of(named),
        "provenance": trace(named, given.runs),
        "pictures": given.pictures(named) if depth == "all" else (),
    }


def of_models(frame: DataFrame, models: Collection[str]) -> DataFrame:
    """The rows of some networks, and no category of others."""
    return tidy(frame[frame["model"].isin(models)].reset_index(drop=True))
