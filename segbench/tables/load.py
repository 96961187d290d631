"""The tables of a workspace: of one run, or of all that was ever asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pandas import DataFrame

from segbench.api import Tables
from segbench.errors import UserError
from segbench.store.diagnoses import read_diagnoses
from segbench.store.rows import read_rows
from segbench.store.runs import RunRecord, read_runs
from segbench.store.workspace import Workspace
from segbench.tables.build import NOT_SUMMED_UP, SUMMED_UP_BY, build_tables
from segbench.tables.named_cases import Depth
from segbench.tables.pictures import read_pictures
from segbench.tables.shown import last_asked, rows_of_runs
from segbench.training.card import find_checkpoints, load_card


def load_tables(
    workspace: Workspace,
    *,
    run: RunRecord | Sequence[RunRecord] | None = None,
    every: bool = False,
    strict: bool = False,
    depth: Depth = "all",
    pair: tuple[str, str] | None = None,
) -> Tables:
    """What is shown of a workspace; a damaged file is left out, and a note names it.

    Args:
        run: exactly what it, or they, asked for. None shows, per name, the network that was asked
            about last.
        every: all networks that ever bore a name.
        strict: leaves out networks whose checkpoint has other weights by now.
        depth: how much is computed, see ``build_tables``.
        pair: two names, or parts of names; only these two networks are shown, with what all of
            them together say against these.

    Raises:
        UserError: there are no rows to show, or the store is of an older segbench.
    """
    damaged: list[str] = []
    runs = read_runs(workspace, damaged)
    rows = read_rows(
        workspace,
        damaged,
        categories=True,
        without=NOT_SUMMED_UP if depth == "summary" else (),
        by=SUMMED_UP_BY if depth == "summary" else (),
    )
    if rows.empty:
        left_out = f" ({'; '.join(damaged)})" if damaged else ""
        raise UserError(
            "the workspace holds no results; `segbench attack --eps 0.03` computes some" + left_out
        )
    cards = _read_cards(workspace)
    wanted = [run] if isinstance(run, RunRecord) else run
    shown = rows_of_runs(rows, wanted) if wanted else last_asked(rows, runs, every=every)
    del rows
    return build_tables(
        shown.rows,
        shown=shown,
        only=None if pair is None else _of_pair(shown.rows, pair),
        current={} if run or every else {c.name: c.weights for c in cards},
        trainings={card.weights: card.cost for card in cards},
        strict=strict,
        runs=runs,
        diagnoses=read_diagnoses(workspace, damaged),
        damaged=damaged,
        depth=depth,
        pictures=lambda named: read_pictures(workspace, named),
    )


def _of_pair(rows: DataFrame, pair: tuple[str, str]) -> tuple[str, str]:
    """The names of two networks.

    Raises:
        UserError: a name is none of theirs, or of several, or both are of one.
    """
    names = sorted(set(rows["model"].astype("str")))
    first, second = (_choose(names, name) for name in pair)
    if first == second:
        raise UserError(f"{pair[0]!r} and {pair[1]!r} are one network, {first}")
    return first, second


def _choose(names: Sequence[str], wanted: str) -> str:
    """The one network whose name this is, or a part of."""
    found = [wanted] if wanted in names else [name for name in names if wanted in name]
    if len(found) == 1:
        return found[0]
    known = f"{', '.join(found)} all bear it" if found else f"there are {', '.join(names)}"
    raise UserError(f"no one network is meant by {wanted!r}: {known}")


@dataclass(frozen=True)
class _Checkpoint:
    """A checkpoint as it is now: SHA-256 of its ``weights``, and what its training took."""

    name: str
    weights: str
    cost: str


def weights_by_now(workspace: Workspace) -> dict[str, str]:
    """Name -> SHA-256 of the weights of every checkpoint as it is now."""
    return {card.name: card.weights for card in _read_cards(workspace)}


def _read_cards(workspace: Workspace) -> list[_Checkpoint]:
    """Of the checkpoints whose card can be read."""
    found = []
    for path in find_checkpoints(workspace):
        try:
            card = load_card(path)
            found.append(_Checkpoint(path.name, card.weights_sha256, card.cost))
        except UserError:
            continue  # whoever asks for it is told
    return found
