"""Rows to tables: cases, curves and their summary, computed once for every report and the gate.

Order of averaging: over the classes of a case (NaN, a class its label lacks, is skipped), then over
attack seeds, then over cases. Intervals resample groups, see ``stats.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pandas import DataFrame

from segbench.api import Picture, Tables
from segbench.errors import UserError
from segbench.store.diagnoses import Diagnosis
from segbench.store.runs import RunRecord
from segbench.tables import certified
from segbench.tables.averages import CASE, CURVE, SUBJECT
from segbench.tables.background import describe_unscored
from segbench.tables.boundaries import mixed_units
from segbench.tables.comparisons import compare_models
from segbench.tables.curves import METRICS, draw_curves, summarise
from segbench.tables.diagnoses import mark_untrusted
from segbench.tables.falling import describe_falling
from segbench.tables.fields import Field, fields_of
from segbench.tables.headlines import headlines, score_numbers, standings
from segbench.tables.marked import describe_marks
from segbench.tables.members import winners
from segbench.tables.minnorm import describe_distances
from segbench.tables.named_cases import Depth, Given, NamedCases, named_cases, of_models
from segbench.tables.notes import (
    collect_notes,
    collect_warnings,
    describe_left_out,
    describe_units,
)
from segbench.tables.optimality import optimality
from segbench.tables.ranks import RANKING, rank_networks
from segbench.tables.seed_spread import spread_over_seeds
from segbench.tables.shown import Shown
from segbench.tables.structures import spread_of_cases
from segbench.tables.stuck import Judgement, judge
from segbench.tables.texts import compact, distinct, plain_texts, stack
from segbench.tables.trainings import describe_apart, describe_unshared
from segbench.tables.transfers import transfer_matrices
from segbench.tables.unlike import describe_unlike
from segbench.tables.unmeasured import describe_unmeasured
from segbench.tables.worst import MET, ROW, describe_worst, worst_cases

NOT_SUMMED_UP = ("dice", "sensitivity", "specificity", "nsd", "lesions", "lesions_found",
                 "lesions_false", "seconds")  # fmt: skip
"""Columns of rows that say nothing in a summary, which is of Jaccard, nor in what it notes."""

SUMMED_UP_BY = [*CASE, "seed"]
"""The order in which a summary has least to do with rows; its numbers are those of any order."""


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
    only: Collection[str] | None = None,
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
        depth: how much is computed: ``cases`` and ``distances`` alone, for the gate; ``curves``,
            but no pairs of networks; of them a ``summary`` of Jaccard with its notes, for a
            terminal; or all, for a report. What is not computed is empty.
        trainings: SHA-256 of weights -> how they were trained, and what that took.
        pictures: finds those of the rows, which have the names that the tables show.
        only: names that rows bear; the tables are of these networks. The others are judged along:
            whether an attack was stuck shows beside them too.

    Raises:
        UserError: there are no rows, or none of current weights.
    """
    shown = shown or Shown(rows)
    former = retrained(rows if only is None else of_models(rows, only), current or {})
    if strict:
        rows = rows[~rows["model"].isin(former)]
    if rows.empty:
        raise UserError(_nothing_to_show(former if strict else (), damaged))
    notes = [
        *(f"Left out: {sentence}" for sentence in damaged),
        *describe_left_out(shown, former, left_out=strict),
    ]
    units = [*describe_units(shown)]
    rows = mark_untrusted(compact(rows), diagnoses)
    given = Given(notes, units, shown.settings, runs, diagnoses, pictures, only)
    tables = _tabulate(rows, given, depth)
    return replace(tables, provenance={**tables.provenance, **_trainings(tables, trainings or {})})


def _trainings(tables: Tables, known: Mapping[str, str]) -> dict[str, Any]:
    """How the networks of the tables were trained, where that is known."""
    weights = tables.provenance.get("weights", {})
    found = {model: known[sha256] for model, sha256 in weights.items() if sha256 in known}
    return {"trainings": found} if found else {}


def _tabulate(rows: DataFrame, given: Given, depth: Depth) -> Tables:
    """What is made of the rows that are shown."""
    own = named_cases(rows, given, depth)
    if depth == "cases":
        nothing = DataFrame()
        return Tables(rows, own.cases, nothing, nothing, own.distances, nothing, nothing)
    worst = worst_cases(own.cases, SUBJECT)
    judged = judge(own.cases, worst, SUBJECT, own.only)
    worst = worst.assign(marks=judged.cases["marks"].iloc[worst[ROW]].array)
    cases = judged.cases if own.only is None else of_models(judged.cases, own.only)
    worst = worst if own.only is None else of_models(worst, own.only)
    measured = _measured(cases)
    plain = cases[measured].assign(**{MET: np.uint64(0)})  # attacks as they are
    everything = stack([plain, worst[[*measured, MET]]])
    curves = plain_texts(draw_curves(everything, SUBJECT))
    summary = summarise(curves)
    certificates = plain_texts(certified.tabulate(own.proved, cases, curves, SUBJECT))
    fields = [*fields_of(cases, SUBJECT)]
    unmeasured = [*describe_unmeasured(judged.cases, worst, cases, [*CURVE, "budget"])]
    warnings = [*_doubts(own, judged, given, fields, cases, curves, summary), *unmeasured]
    tables = Tables(
        rows=rows.reset_index(drop=True),
        cases=cases,
        curves=curves,
        summary=summary,
        distances=own.distances,
        falls=own.falls,
        seeds=DataFrame(),
        comparisons=DataFrame(),
        notes=[*warnings, *_remarks(own, given, cases, worst, certificates)],
        certificates=certificates,
        warnings=warnings,
        findings=own.diagnosed.findings,
        examined=own.diagnosed.examined,
    )
    if depth == "summary":
        return tables
    numbers = [*score_numbers(fields)]
    found = [number for number in numbers if not number.shared]
    shared = [number for number in numbers if number.shared]
    tables = replace(
        tables,
        seeds=spread_over_seeds(everything, curves, given.settings),
        transfers=list(transfer_matrices(curves)),
        headlines=headlines(found, cases, SUBJECT),
        compared=headlines(shared, cases, SUBJECT),
        standings=standings(numbers, cases, SUBJECT),
        ranks=rank_networks(numbers, cases, SUBJECT),
        **own.whence,
    )
    if depth != "all":
        return tables
    attacked = cases[~certified.is_certified(cases)]
    merged = given.settings if given.only is None else None  # who names two wants these two
    return replace(
        tables,
        comparisons=plain_texts(compare_models(attacked, merged)),
        **_for_a_page(everything, cases, own),
    )


def _doubts(
    own: NamedCases,
    judged: Judgement,
    given: Given,
    fields: Sequence[Field],
    cases: DataFrame,
    curves: DataFrame,
    summary: DataFrame,
) -> list[str]:
    """What speaks against the numbers, the gravest first."""
    return [
        *own.diagnosed.findings,
        *describe_unscored(cases)[0],
        *judged.stuck,
        *own.strayed,
        *own.edited,
        *describe_falling(own.cases, SUBJECT, own.only),
        *describe_marks(summary, cases),
        *describe_unlike(fields, SUBJECT),
        *given.notes,
        *judged.behind,
        *describe_apart(curves["model"].unique(), given.settings),
        *(describe_unshared(cases, given.settings) if given.only is None else ()),
        *collect_warnings(cases, curves, summary),
        *mixed_units(own.units),
    ]


def _remarks(
    own: NamedCases, given: Given, cases: DataFrame, worst: DataFrame, certificates: DataFrame
) -> list[str]:
    """What says how to read them."""
    return [
        *own.diagnosed.examined,
        *describe_unscored(cases)[1],
        *given.units,
        *collect_notes(own.seeds, own.images, own.overlaps, own.units),
        *describe_worst(worst),
        *describe_distances(own.distances),
        *certified.describe(certificates),
    ]


def _for_a_page(everything: DataFrame, cases: DataFrame, own: NamedCases) -> dict[str, Any]:
    """What only a page shows."""
    return {
        "structures": own.structures,
        "spread": plain_texts(spread_of_cases(everything)),
        "costs": own.costs,
        "optimality": plain_texts(optimality(cases, SUBJECT)),
        "winners": plain_texts(winners(cases)),
    }


def _measured(cases: DataFrame) -> list[str]:
    """The columns of a point without metrics that nobody asked for."""
    asked = [name for name in METRICS if name in RANKING or cases[name].notna().any()]
    return [*CASE, *asked, "precision", "marks"]


def retrained(rows: DataFrame, current: Mapping[str, str]) -> list[str]:
    """The models whose checkpoint has other weights by now than those the rows are of."""
    pairs = distinct(rows, ["model", "weights_sha256"])
    return sorted({model for model, weights in pairs if current.get(model, weights) != weights})


def _nothing_to_show(retrained: Sequence[str], damaged: Sequence[str]) -> str:
    if retrained:
        return (
            f"all scores to be shown are of older weights of {', '.join(retrained)}; run "
            "`segbench attack` again"
        )
    left_out = f" (left out: {'; '.join(damaged)})" if damaged else ""
    return "the store holds no scores of what was asked for; run `segbench attack` again" + left_out
