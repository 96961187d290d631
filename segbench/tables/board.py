"""Several workspaces as one: their networks side by side, ranked by what they met alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
from segbench.tables.texts import compact, distinct, stack

_SCORE = [
    "network_sha256", "dataset_fingerprint", "split", "attack", "attack_params", "budget_kind",
    "budget", "seed", "case_id", "class_id",
]  # fmt: skip
_KNOWN_BY = {"model": "network_sha256", "dataset": "dataset_fingerprint"}


def merged_tables(workspaces: Sequence[Workspace]) -> Tables:
    """The tables of all rows that the workspaces show, but no pairs of networks and no pictures.

    A network, or data, of several workspaces has what all of them know, under the name that the
    last one has for it; of a score that several know that of the last one counts. Two networks of
    one name are told apart. ``notes`` are those that speak against a number.

    Raises:
        UserError: a workspace holds no rows.
    """
    parts, notes = list[Part](), list[str]()
    for workspace in workspaces:
        damaged: list[str] = []
        runs = read_runs(workspace, damaged)
        rows = read_rows(workspace, damaged, categories=True)
        if rows.empty:
            raise UserError(f"{workspace} holds no results; `segbench attack` computes some")
        shown = last_asked(rows, runs)
        former = retrained(shown.rows, weights_by_now(workspace))
        parts.append(Part(shown, read_diagnoses(workspace, damaged)))
        said = [f"Left out: {sentence}" for sentence in damaged]
        said += describe_left_out(shown, former, left_out=False)
        notes += [f"{workspace}: {sentence}" for sentence in said]
    tables = merge(parts)
    return replace(tables, notes=[*dict.fromkeys([*notes, *tables.warnings])])


@dataclass(frozen=True, eq=False)
class Part:
    """What a workspace shows, and what it knows of its networks."""

    shown: Shown
    diagnoses: Sequence[Diagnosis]

    def names(self, column: str, identity: str, now: Mapping[str, str]) -> dict[str, str]:
        """What is called so here -> what it is called by now."""
        return {name: now[sha] for name, sha in distinct(self.shown.rows, [column, identity])}


def merge(parts: Sequence[Part]) -> Tables:
    """The tables of all rows, each score once, networks and data by the names that they had last.

    What was found out about a network under another name is said of it too.
    """
    rows = stack([compact(part.shown.rows) for part in parts])
    rows = rows.drop_duplicates(_SCORE, keep="last", ignore_index=True)
    now = {}
    for name, identity in _KNOWN_BY.items():
        last = rows.drop_duplicates(identity, keep="last")
        now[name] = dict(zip(last[identity].astype("str"), last[name].astype("str"), strict=True))
        rows = rows.assign(**{name: rows[identity].astype("str").map(now[name])})
    settings, diagnoses = dict[str, str](), list[Diagnosis]()
    for part in parts:
        model, data = (part.names(name, _KNOWN_BY[name], now[name]) for name in _KNOWN_BY)
        known = part.shown.settings.items()
        settings |= {model[name]: sha for name, sha in known if name in model}
        for one in part.diagnoses:
            names = {"model": now["model"].get(one.network_sha256, one.model),
                     "dataset": data.get(one.dataset, one.dataset)}  # fmt: skip
            diagnoses.append(one.model_copy(update=names))
    shown = replace(Shown(rows), settings=settings)
    return build_tables(compact(rows), shown=shown, diagnoses=diagnoses, depth="curves")
