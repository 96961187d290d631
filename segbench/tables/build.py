"""Rows to tables: cases, curves and their summary, computed once for every report and the gate.

Order of averaging: over the classes of a case (NaN, a class its label lacks, is skipped), then over
attack seeds, then over cases. Intervals resample groups, see ``stats.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.api import Picture, Tables
from segbench.errors import UserError
from segbench.plugins.naming import CLEAN
from segbench.store.diagnoses import Diagnosis
from segbench.store.runs import RunRecord
from segbench.tables import certified
from segbench.tables.comparisons import compare_models
from segbench.tables.curves import METRICS, draw_curves, summarise
from segbench.tables.diagnoses import describe_diagnoses, mark_untrusted
from segbench.tables.headlines import RANKING, headlines, rank_networks, score_numbers
from segbench.tables.labels import name_apart
from segbench.tables.lesions import with_lesions
from segbench.tables.members import winners
from segbench.tables.minnorm import KIND, curve_points, describe_distances, summarise_distances
from segbench.tables.notes import collect_notes, collect_warnings, describe_left_out, describe_units
from segbench.tables.optimality import optimality
from segbench.tables.seed_spread import describe_apart, spread_over_seeds
from segbench.tables.shown import Shown
from segbench.tables.structures import by_structure, costs, spread_of_cases
from segbench.tables.stuck import judge
from segbench.tables.texts import compact, join_words, plain_texts, stack
from segbench.tables.transfers import transfer_matrices
from segbench.tables.worst import describe_worst, worst_cases

_SUBJECT = [
    "model", "network_sha256", "weights_sha256", "dataset", "dataset_fingerprint", "split",
]  # fmt: skip
Depth = Literal["cases", "curves", "all"]
_CURVE = [*_SUBJECT, "attack", "attack_params", "budget_kind"]
_CASE = [*_CURVE, "budget", "case_id", "group_id"]
_MEANS = [*METRICS, "linf", "l2", "forwards", "backwards", "zero_gradients", "late_gain", "seconds"]
_WORDS = ("precision", "device", "marks", "member")


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
    trainings: Mapping[str, str] | None = None,
    pictures: Callable[[DataFrame], Sequence[Picture]] = lambda named: (),
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
        depth: how much is computed: ``cases`` alone, for the gate; ``curves``, but no pairs of
            networks, for a terminal; or all, for a report. What is not computed is empty.
        trainings: SHA-256 of weights -> how they were trained, and what that took.
        pictures: finds those of the rows, which have the names that the tables show.

    Raises:
        UserError: there are no rows, or none of current weights.
    """
    shown = shown or Shown(rows)
    retrained = _retrained(rows, current or {})
    if strict:
        rows = rows[~rows["model"].isin(retrained)]
    if rows.empty:
        raise UserError(_nothing_to_show(retrained if strict else (), damaged))
    notes = [
        *(f"Left out: {sentence}" for sentence in damaged),
        *describe_left_out(shown, retrained, left_out=strict),
    ]
    units = [*describe_units(shown)]
    rows = mark_untrusted(compact(rows), diagnoses)
    tables = _tabulate(rows, _Given(notes, units, shown.settings, runs, diagnoses, pictures), depth)
    return replace(tables, provenance={**tables.provenance, **_trainings(tables, trainings or {})})


def _trainings(tables: Tables, known: Mapping[str, str]) -> dict[str, Any]:
    """How the networks of the tables were trained, where that is known."""
    weights = tables.provenance.get("weights", {})
    found = {model: known[sha256] for model, sha256 in weights.items() if sha256 in known}
    return {"trainings": found} if found else {}


@dataclass(frozen=True, eq=False)
class _Given:
    """What is known beside the rows that are shown; see ``build_tables``."""

    notes: Sequence[str]
    units: Sequence[str]
    settings: Mapping[str, str]
    runs: Sequence[RunRecord]
    diagnoses: Sequence[Diagnosis]
    pictures: Callable[[DataFrame], Sequence[Picture]]


@dataclass(frozen=True, eq=False)
class _Cases:
    """What is made of rows under their names, which are then let go.

    Of a large grid there is room for one copy of what is not needed, not for three.

    Attributes:
        cases: a row per case.
        proved: the rows of certificates.
        overlaps: at which lesions were counted.
        first: warnings that come before those of the numbers.
    """

    cases: DataFrame
    distances: DataFrame
    proved: DataFrame
    structures: DataFrame
    overlaps: Sequence[float]
    first: Sequence[str]
    seeds: Mapping[tuple[str, str], list[int]]
    whence: Mapping[str, Any]


def _tabulate(rows: DataFrame, given: _Given, depth: Depth) -> Tables:
    """What is made of the rows that are shown."""
    own = _named_cases(rows, given, depth)
    if depth == "cases":
        nothing = DataFrame()
        return Tables(rows, own.cases, nothing, nothing, nothing, nothing, nothing)
    worst = worst_cases(own.cases, _SUBJECT)
    stuck, cases = judge(own.cases, worst, _SUBJECT)
    everything = stack([cases[_measured(cases)], worst[_measured(cases)]])
    curves = plain_texts(draw_curves(everything, _SUBJECT))
    summary = summarise(curves)
    certificates = plain_texts(certified.tabulate(own.proved, cases, curves, _SUBJECT))
    numbers = [*score_numbers(everything, _SUBJECT, RANKING if depth == "all" else RANKING[:1])]
    apart = describe_apart(curves["model"].unique(), given.settings)
    warnings = [*own.first, *apart, *stuck, *collect_warnings(cases, curves, summary)]
    said = [
        *given.units,
        *collect_notes(cases, own.seeds, own.overlaps),
        *describe_worst(worst),
        *describe_distances(own.distances),
        *certified.describe(certificates),
    ]
    tables = Tables(
        rows=rows.reset_index(drop=True),
        cases=cases,
        curves=curves,
        summary=summary,
        distances=own.distances,
        seeds=spread_over_seeds(curves, given.settings),
        comparisons=DataFrame(),
        transfers=list(transfer_matrices(curves)),
        notes=[*warnings, *said],
        certificates=certificates,
        warnings=warnings,
        headlines=plain_texts(headlines(numbers, _SUBJECT)),
        **own.whence,
    )
    if depth == "curves":
        return tables
    attacked = everything[~certified.is_certified(everything)]
    return replace(
        tables,
        comparisons=plain_texts(compare_models(attacked, given.settings)),
        ranks=rank_networks(numbers, _SUBJECT),
        **_for_a_page(everything, cases, own.structures),
    )


def _named_cases(rows: DataFrame, given: _Given, depth: Depth) -> _Cases:
    """The rows as cases, and what else takes the names that tables show."""
    named = name_apart(rows)
    cases, distances = _cases(named)
    return _Cases(
        cases,
        distances,
        proved=named[certified.is_certified(named)],
        structures=by_structure(named) if depth == "all" else DataFrame(),
        overlaps=sorted(named["lesion_overlap"].dropna().unique().tolist()),
        first=[*given.notes, *describe_diagnoses(rows, named, given.diagnoses)],
        seeds=_seeds(named),
        whence={
            "attacks": _parameters(named),
            "provenance": _trace(named, given.runs),
            "pictures": given.pictures(named) if depth == "all" else (),
        },
    )


def _for_a_page(everything: DataFrame, cases: DataFrame, structures: DataFrame) -> dict[str, Any]:
    """What only a page shows."""
    return {
        "structures": structures,
        "spread": plain_texts(spread_of_cases(everything)),
        "costs": plain_texts(costs(cases)),
        "optimality": plain_texts(optimality(cases, _SUBJECT)),
        "winners": plain_texts(winners(cases)),
    }


def _cases(named: DataFrame) -> tuple[DataFrame, DataFrame]:
    """One row per case, and one per minimum-norm attack."""
    seeded = _average_classes(with_lesions(named))
    distances = plain_texts(summarise_distances(seeded, _CURVE))
    points = stack([seeded, curve_points(seeded, _SUBJECT, METRICS)])
    del seeded
    averaged = _average_seeds(points)
    return averaged[averaged["budget_kind"] != KIND].reset_index(drop=True), distances


def _measured(cases: DataFrame) -> list[str]:
    """The columns of a point without metrics that nobody asked for."""
    asked = [name for name in METRICS if name in RANKING or cases[name].notna().any()]
    return [*_CASE, *asked, "precision", "marks"]


def _retrained(rows: DataFrame, current: Mapping[str, str]) -> list[str]:
    """The models whose checkpoint has other weights by now than those the rows are of."""
    pairs = rows[["model", "weights_sha256"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted({model for model, weights in pairs if current.get(model, weights) != weights})


def _nothing_to_show(retrained: Sequence[str], damaged: Sequence[str]) -> str:
    if retrained:
        return (
            f"all scores to be shown are of older weights of {', '.join(retrained)}; run "
            "`segbench attack` again"
        )
    left_out = f" (left out: {'; '.join(damaged)})" if damaged else ""
    return "the store holds no scores of what was asked for; run `segbench attack` again" + left_out


def _average_classes(rows: DataFrame) -> DataFrame:
    """One row per case and attack seed: mean over classes; what is counted is summed."""
    scores, number = _averaged(rows, [*_CASE, "seed"], _MEANS)
    for counted in ("false_positives", "lesions_false"):
        scores[counted] = rows[counted].groupby(number).sum(min_count=1).to_numpy()
    return scores


def _average_seeds(scores: DataFrame) -> DataFrame:
    """One row per case: mean over its attack seeds."""
    cases, number = _averaged(scores, _CASE, [*_MEANS, "false_positives"])
    return cases.assign(seeds=np.bincount(number))


def _averaged(
    rows: DataFrame, keys: list[str], means: list[str]
) -> tuple[DataFrame, NDArray[np.int64]]:
    """One row per combination of keys, in order, and the number of each row's; words are joined."""
    number = np.asarray(rows.groupby(keys, sort=True, observed=True).ngroup(), np.int64)
    first = np.unique(number, return_index=True)[1]
    found = rows[keys].iloc[first].reset_index(drop=True)
    single = len(first) == len(rows)  # then there is nothing to average
    for column in means:
        own = rows[column].iloc[first] if single else rows[column].groupby(number).mean()
        found[column] = own.to_numpy(np.float64)
    for column in _WORDS:
        if single or rows[column].nunique() == 1:
            found[column] = rows[column].iloc[first].reset_index(drop=True)
        else:
            said = join_words(rows[[column]].assign(number=number), ["number"], column)
            found[column] = said.reindex(range(len(found)))
    return found, number


def _parameters(rows: DataFrame) -> dict[str, Any]:
    """Attack label -> its complete parameters; certificates are none."""
    pairs = _pairs(rows[~certified.is_certified(rows)], "attack", "attack_params").items()
    return {label: json.loads(params) for label, params in pairs if label != CLEAN}


def _seeds(rows: DataFrame) -> dict[tuple[str, str], list[int]]:
    """(model, attack) -> its attack seeds, where there are several."""
    seeds: dict[tuple[str, str], set[int]] = {}
    found = rows[["model", "attack", "seed"]].drop_duplicates()
    for model, attack, seed in found.itertuples(index=False, name=None):
        seeds.setdefault((model, attack), set()).add(seed)
    return {key: sorted(values) for key, values in sorted(seeds.items()) if len(values) > 1}


def _trace(rows: DataFrame, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Where the rows came from."""
    computed = set(rows["run"].unique().tolist())
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
        "devices": sorted(rows["device"].unique()),
        "precisions": sorted(rows["precision"].unique()),
        "versions": {package: sorted(found) for package, found in sorted(versions.items())},
        "git_commits": sorted(commits),
        "runs": sorted({run.run_id for run in used}),
    }


def _pairs(rows: DataFrame, name: str, value: str) -> dict[str, str]:
    pairs = rows[[name, value]].drop_duplicates().sort_values(name)
    return dict(zip(pairs[name], pairs[value], strict=True))
