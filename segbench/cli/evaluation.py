"""A request evaluated with a progress bar: what attack, run and demo share."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.store.garbage import importing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from segbench.api import Dataset
    from segbench.cli.display import AttackProgress
    from segbench.evaluation.grid import Grid
    from segbench.evaluation.grid_file import GridFile
    from segbench.evaluation.request import DataSource, Request
    from segbench.networks import ModelReference
    from segbench.store.runs import RunRecord
    from segbench.store.workspace import Workspace


def evaluate(request: Request, workspace: Workspace) -> None:
    """Run the grid with a progress bar, then show the tables of what was asked for."""
    with importing():
        from segbench.cli.consoles import console
        from segbench.cli.display import AttackProgress, progress_bar
        from segbench.cli.summary import show_summary
        from segbench.evaluation.plan import find_sources, plan_grid
        from segbench.evaluation.run import refuse_failures, run_grid
        from segbench.evaluation.settle import settle
        from segbench.tables.load import load_tables

    say_own_attacks(request.attacks)
    grid = plan_grid(request)
    find_sources(grid, workspace)
    pairs = resolve_request(request, workspace)
    with progress_bar() as progress:
        listener = AttackProgress(progress, planned_scores(pairs, grid))
        argv = (Path(sys.argv[0]).name, *sys.argv[1:])
        records = [run_grid(pairs, grid, workspace, request, listener, argv)]
        if request.until_settled:
            records = settle(pairs, request, workspace, records[0], listener)
    show_summary(load_tables(workspace, run=records, depth="summary"))
    console.print(_outcome(records, listener, workspace), soft_wrap=True)
    refuse_failures(*records)


def _outcome(records: Sequence[RunRecord], listener: AttackProgress, workspace: Workspace) -> str:
    """How many scores all runs together have computed, and found."""
    from segbench.atomic import shown
    from segbench.store.runs import run_ids

    if not records[0].number:
        return (
            f"{workspace} cannot be written, so nothing was recorded; all {listener.found} "
            "scores were found in it"
        )
    computed = f"{run_ids(records)}: {listener.computed} scores computed"
    return f"{computed}, {listener.found} found in {shown(workspace.results)}"


def with_trained(grid: GridFile) -> GridFile:
    """The file, its networks and data named where they are those that it trains."""
    from segbench.cli.options import DEFAULT_DATASET

    if not grid.train:
        return grid
    dataset = grid.dataset or DEFAULT_DATASET
    return replace(grid, models=grid.models or grid.train.networks, dataset=dataset)


def show_plan(request: Request, workspace: Workspace) -> None:
    """Say what a request will cost, and compute nothing."""
    from segbench.cli.consoles import console
    from segbench.cli.planning import plan

    for line in plan(request, workspace):
        console.print(line, soft_wrap=True)


def planned_scores(pairs: list[tuple[ModelReference, DataSource]], grid: Grid) -> dict[str, int]:
    """Scores of the whole grid by what its cells are called, so that time left is of it all."""
    cases = sum(len(data.entries) for _, data in pairs)
    cells = Counter(cell.label for cell in grid.cells)
    return {label: count * cases for label, count in cells.items()}


def say_own_attacks(texts: Iterable[str]) -> None:
    """Say which files and modules of the user's own these attacks run."""
    from segbench.cli.consoles import messages
    from segbench.plugins.own_attack import own_modules

    for module in own_modules(texts):
        said = f"{module} is code of yours and runs here"
        messages.print(said, soft_wrap=True)


def resolve_request(
    request: Request, workspace: Workspace
) -> list[tuple[ModelReference, DataSource]]:
    """Each network that is asked for with its data; says where code of the user's runs."""
    from segbench.cli.consoles import messages
    from segbench.evaluation.plan import find_models, pair_with_data
    from segbench.networks import ArchiveReference, CombinedReference, ForeignReference

    references = find_models(request, workspace)
    combined = (r.members if isinstance(r, CombinedReference) else (r,) for r in references)
    for reference in chain.from_iterable(combined):
        if isinstance(reference, (ForeignReference, ArchiveReference)):
            messages.print(f"{reference.module} is code of yours and runs here")
    pairs = pair_with_data(references, request)
    say_notes([data.dataset for _, data in pairs])
    return pairs


def say_notes(datasets: Iterable[Dataset]) -> None:
    """Once, what each data set has found and what it has left out."""
    from segbench.api import SaysNotes
    from segbench.cli.consoles import messages

    for dataset in {id(dataset): dataset for dataset in datasets}.values():
        for note in dataset.notes if isinstance(dataset, SaysNotes) else ():
            messages.print(note, soft_wrap=True)
