"""A request evaluated with a progress bar: what attack, run and demo share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from segbench.api import Tables
    from segbench.evaluation.request import DataSource, Request
    from segbench.networks import ModelReference


def evaluate(request: Request, workspace: Path) -> None:
    """Run the grid with a progress bar, then show the tables of its networks."""
    from segbench.evaluation.plan import find_sources, plan_grid

    grid = plan_grid(request)
    find_sources(grid, workspace)
    pairs = resolve_request(request, workspace)

    from segbench.cli.display import AttackProgress, console, progress_bar, show_summary
    from segbench.evaluation.run import run_grid
    from segbench.store.workspace import Workspace

    with progress_bar() as progress:
        listener = AttackProgress(progress)
        run_id = run_grid(pairs, grid, Workspace(workspace), request, listener)
    names = {reference.name for reference, _ in pairs}
    show_summary(load_tables(workspace, models=names))
    console.print(
        f"run {run_id}: {listener.computed} shards computed, {listener.found} found in "
        f"{workspace / 'results'}",
        highlight=False,
        soft_wrap=True,
    )


def resolve_request(request: Request, workspace: Path) -> list[tuple[ModelReference, DataSource]]:
    """Each network that is asked for with its data; says where code of the user's runs."""
    from segbench.cli.display import messages
    from segbench.evaluation.plan import find_models, pair_with_data
    from segbench.networks import ArchiveReference, ForeignReference

    references = find_models(request, workspace)
    for reference in references:
        if isinstance(reference, (ForeignReference, ArchiveReference)):
            messages.print(f"{reference.module} is code of yours and runs here", highlight=False)
    return pair_with_data(references, request)


def load_tables(
    workspace: Path, all_weights: bool = False, models: Collection[str] | None = None
) -> Tables:
    """The tables of all stored rows, or of some models', each with the weights it has now."""
    from segbench.store.diagnoses import read_diagnoses
    from segbench.store.rows import read_rows, read_runs
    from segbench.store.workspace import Workspace
    from segbench.tables.build import build_tables
    from segbench.training.card import find_checkpoints, load_card

    store = Workspace(workspace)
    current = {path.name: load_card(path).weights_sha256 for path in find_checkpoints(workspace)}
    rows = read_rows(store)
    return build_tables(
        rows if models is None else rows[rows["model"].isin(models)],
        current=current,
        all_weights=all_weights,
        runs=read_runs(store),
        diagnoses=read_diagnoses(store),
    )
