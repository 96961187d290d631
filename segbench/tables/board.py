"""Several workspaces as one: their networks side by side, ranked by what they met alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pandas import DataFrame

from segbench.api import Tables
from segbench.errors import UserError
from segbench.store.diagnoses import Diagnosis, read_diagnoses
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace
from segbench.tables.build import build_tables, retrained
from segbench.tables.load import weights_by_now
from segbench.tables.notes import describe_left_out
from segbench.tables.shown import Shown, last_asked
from segbench.tables.texts import compact, stack

_SCORE = [
    "network_sha256", "dataset_fingerprint", "split", "attack", "attack_params", "budget_kind",
    "budget", "seed", "case_id", "class_id",
]  # fmt: skip


def merged_tables(workspaces: Sequence[Workspace]) -> Tables:
    """The tables of all rows that the workspaces show, but no pairs of networks and no pictures.

    A network, or data, of several workspaces has what all of them know, under the name that the
    last one has for it; of a score that several know that of the last one counts. Two networks of
    one name are told apart. ``notes`` are those that speak against a number.

    Raises:
        UserError: a workspace holds no rows.
    """
    parts, notes, settings = list[DataFrame](), list[str](), dict[str, str]()
    diagnoses = dict[tuple[str, str, str], Diagnosis]()
    for workspace in workspaces:
        damaged: list[str] = []
        runs = read_runs(workspace, damaged)
        rows = read_rows(workspace, damaged, categories=True)
        if rows.empty:
            raise UserError(f"{workspace} holds no results; `segbench attack` computes some")
        shown = last_asked(rows, runs)
        former = retrained(shown.rows, weights_by_now(workspace))
        diagnoses |= {one.subject: one for one in read_diagnoses(workspace, damaged)}
        said = [f"Left out: {sentence}" for sentence in damaged]
        said += describe_left_out(shown, former, left_out=False)
        notes += [f"{workspace}: {sentence}" for sentence in said]
        parts.append(shown.rows)
        settings |= shown.settings
    merged = _merged(parts)
    shown = replace(Shown(merged), settings=settings)
    examined = [*diagnoses.values()]
    tables = build_tables(merged, shown=shown, diagnoses=examined, depth="curves")
    return replace(tables, notes=[*dict.fromkeys([*notes, *tables.warnings])])


def _merged(parts: Sequence[DataFrame]) -> DataFrame:
    """All rows, each score once, networks and data under the names that they had last."""
    rows = stack([compact(part) for part in parts])
    rows = rows.drop_duplicates(_SCORE, keep="last", ignore_index=True)
    for name, identity in (("model", "network_sha256"), ("dataset", "dataset_fingerprint")):
        last = rows.drop_duplicates(identity, keep="last")
        names = dict(zip(last[identity].astype("str"), last[name].astype("str"), strict=True))
        rows = rows.assign(**{name: rows[identity].astype("str").map(names)})
    return compact(rows)
