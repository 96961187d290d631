"""Seconds and memory of a finished attack, of `check` and of `report` against the number of cells.

    python benchmarks/store.py
    python benchmarks/store.py --cells 1000 --keep DIR      leaves the store there, to profile

One network without weights is attacked once; its rows are then repeated under the key of every cell
of a grid of ten such networks, ten attacks, and as many (eps, seed) as make up the number, the
attacked ones with other scores. They lie in compacted files, as a run leaves them. So the store
holds what a grid of that size would have left, and no attack is waited for. Seconds of processor
are what counts: on a machine that others use too they grow least.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
from measured import Cost, cost_of
from numpy.typing import NDArray
from ours import Silent
from pandas import DataFrame
from rich.console import Console
from rich.table import Table

from segbench.evaluation.cell import cell_constants
from segbench.evaluation.grid_file import load_grid_file
from segbench.evaluation.plan import find_models, pair_with_data, plan_grid
from segbench.evaluation.run import run_grid
from segbench.evaluation.work import open_work
from segbench.store import rowfile
from segbench.store.compaction import SHARDS_OF_A_FILE
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

console = Console(highlight=False, width=120)
NETWORK = """
from torch import nn

class Dark(nn.Module):
    def forward(self, images):
        return {slope} * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))

def build():
    return Dark()
"""
NETWORKS, ATTACKS, SEEDS = 10, 10, 20


def write_grid(folder: Path, cells: int, cases: int) -> Path:
    """A grid file of that many attacked cells beside its networks."""
    networks = [folder / f"net{number}.py" for number in range(NETWORKS)]
    for number, path in enumerate(networks):
        path.write_text(NETWORK.format(slope=8 + number))
    points = max(1, cells // (NETWORKS * ATTACKS))
    seeds = min(SEEDS, points)
    levels = points // seeds
    attacks = [f"noise:restarts={restarts}" for restarts in range(1, ATTACKS + 1)]
    grid = folder / "grid.toml"
    grid.write_text(
        f"models = {[f'{path}:build' for path in networks]}\nattacks = {attacks}\n"
        f"eps = {[str(Fraction(level, 10 * levels)) for level in range(1, levels + 1)]}\n"
        f"seeds = {list(range(seeds))}\n"
        f'dataset = "phantom-cxr:size=32,test_cases={cases},train_cases=2"\n'
        'device = "cpu"\nprecision = "fp32"\nreports = []\n'
    )
    return grid


Shares = Callable[[Sequence[Mapping[str, Any]], int], NDArray[np.float64]]
"""Of each attacked cell and row what is left of the row's score, (cells, rows)."""


def at_random(cells: Sequence[Mapping[str, Any]], rows: int) -> NDArray[np.float64]:
    """Between half of it and all."""
    return np.random.default_rng(len(cells)).uniform(0.5, 1, (len(cells), rows))


def fill(grid: Path, workspace: Workspace, shares: Shares = at_random) -> int:
    """Every row of the grid, repeated from those of one network; how many cells it has."""
    asked = load_grid_file(grid)
    whole = plan_grid(asked)
    pairs = pair_with_data(find_models(asked, workspace), asked)
    one = type(whole)(whole.attacks[:1], whole.eps[:1], whole.seeds[:1])
    run_grid(pairs[:1], one, workspace, asked, Silent())
    rows = read_rows(workspace)
    attacked, clean = (rows[(rows["attack"] == "clean") == is_clean] for is_clean in (False, True))
    count = 0
    for reference, data in pairs:
        with open_work(reference, data, whole, workspace, 1, asked, Silent()) as work:
            cells = [
                cell_constants(work.subject, cell, workspace) | {"cell": view.key}
                for cell, [view] in work.cells
            ]
        # A network is asked about a stored case before its rows count: clean ones are as they are.
        write_cells(workspace, clean, cells[:1], np.ones((1, len(clean))))
        for start in range(1, len(cells), SHARDS_OF_A_FILE):
            part = cells[start : start + SHARDS_OF_A_FILE]
            write_cells(workspace, attacked, part, shares(part, len(attacked)))
        count += len(cells)
    return count


def write_cells(
    workspace: Workspace,
    rows: DataFrame,
    cells: Sequence[Mapping[str, Any]],
    left: NDArray[np.float64],
) -> None:
    """A compacted file of those rows under each cell, with what is left of their scores."""
    repeated = {name: np.tile(rows[name].to_numpy(), len(cells)) for name in rows}
    for name in repeated.keys() & cells[0].keys():
        repeated[name] = np.repeat([cell[name] for cell in cells], len(rows))
    repeated["jaccard"] = repeated["jaccard"] * left.ravel()
    columns = [pa.array(repeated[field.name], field.type) for field in rowfile.schema()]
    table = pa.table(columns, schema=rowfile.schema())
    rowfile.write(workspace.results, "run-00001", table, {"compacted": "run-00001"})


def timed(*command: str) -> Cost:
    """What a command of segbench costs."""
    return cost_of([sys.executable, "-m", "segbench", *command])


def measure(folder: Path, cells: int, cases: int) -> dict[str, Cost]:
    """The three commands on a store of that many cells."""
    os.environ["SEGBENCH_CONFIG_DIR"] = str(folder / "config")
    grid, workspace = write_grid(folder, cells, cases), Workspace(folder / "runs")
    fill(grid, workspace)
    where = ("--workspace", str(workspace.root))
    golden = str(folder / "golden.csv")
    return {
        "attack, all found": timed("run", str(grid), *where),
        "check --update": timed("check", "--golden", golden, "--update", *where),
        "check": timed("check", "--golden", golden, *where),
        "report": timed("report", *where),
    }


@click.command()
@click.option("--cells", multiple=True, type=int, default=(1000, 10000, 100000), show_default=True)
@click.option("--cases", type=int, default=8, show_default=True, help="Cases of every cell.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where the stores are left.")
def main(cells: tuple[int, ...], cases: int, keep: Path | None) -> None:
    """Print a table: a line for each command and size."""
    table = Table("command", "cells", "seconds", "processor seconds", "MiB", title="The store")
    for count in cells:
        with tempfile.TemporaryDirectory() as name:
            folder = keep / str(count) if keep else Path(name)
            folder.mkdir(parents=True, exist_ok=True)
            for command, cost in measure(folder, count, cases).items():
                numbers = (f"{cost.wall:.1f}", f"{cost.processor:.1f}", f"{cost.memory:.0f}")
                table.add_row(command, str(count), *numbers)
    console.print(table)


if __name__ == "__main__":
    main()
