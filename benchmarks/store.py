"""Seconds and memory of a finished run, of `check` and of `report` against the number of cells.

    python benchmarks/store.py
    python benchmarks/store.py --cells 1000 --cells 10000 --cells 100000

One network without weights is attacked once; its rows are then repeated under the key of every
cell of a grid of that many (eps, seed), with other scores, and compacted as a run would have done
it. So the store holds what a grid of that size would have left, and no attack is waited for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
from ours import Silent
from rich.console import Console
from rich.table import Table

from segbench.evaluation.cell import cell_constants
from segbench.evaluation.grid_file import load_grid_file
from segbench.evaluation.plan import find_models, pair_with_data, plan_grid
from segbench.evaluation.run import run_grid
from segbench.evaluation.work import open_work
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

console = Console(highlight=False, width=120)
NETWORK = """
from torch import nn

class Dark(nn.Module):
    def forward(self, images):
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))

def build():
    return Dark()
"""
SEEDS = 20
FILE_CELLS = 1000  # cells of a compacted file


@dataclass(frozen=True)
class Cost:
    """Of a command: seconds of wall clock and of processor, and the largest resident set in MiB."""

    wall: float
    processor: float
    memory: float


def write_grid(folder: Path, cells: int, cases: int) -> Path:
    """A grid file of that many cells beside its network."""
    (folder / "net.py").write_text(NETWORK)
    levels = max(1, cells // SEEDS)
    eps = [str(Fraction(level, 10 * levels)) for level in range(1, levels + 1)]
    grid = folder / "grid.toml"
    grid.write_text(
        f'models = ["{folder}/net.py:build"]\nattacks = ["noise"]\neps = {eps}\n'
        f"seeds = {list(range(min(SEEDS, cells)))}\n"
        f'dataset = "phantom-cxr:size=32,test_cases={cases},train_cases=2"\n'
        'device = "cpu"\nprecision = "fp32"\nreports = ["markdown", "csv"]\n'
    )
    return grid


def fill(grid: Path, workspace: Workspace) -> int:
    """Every row of the grid, repeated from those of one cell; how many cells it has."""
    asked = load_grid_file(grid)
    whole = plan_grid(asked)
    [(reference, data)] = pair_with_data(find_models(asked, workspace), asked)
    one = type(whole)(whole.attacks, whole.eps[:1], whole.seeds[:1])
    run_grid([(reference, data)], one, workspace, asked, Silent())
    rows = read_rows(workspace)
    attacked = rows[rows["attack"] != "clean"]
    random = np.random.default_rng(0)
    with open_work(reference, data, whole, workspace, 1, asked, Silent()) as work:
        tables = []
        for cell, [view] in work.cells[1:]:
            constants = cell_constants(work.subject, cell, workspace)
            scores = attacked["jaccard"].to_numpy() * random.uniform(0.5, 1, len(attacked))
            named = {name: value for name, value in constants.items() if name in attacked}
            part = attacked.assign(**named, cell=view.key, jaccard=scores)
            columns = [
                pa.array(part[field.name].to_numpy(), field.type) for field in rowfile.schema()
            ]
            tables.append(pa.table(columns, schema=rowfile.schema()))
    for start in range(0, len(tables), FILE_CELLS):
        gathered = pa.concat_tables(tables[start : start + FILE_CELLS])
        rowfile.write(workspace.results, "run-00001", gathered, {"compacted": "run-00001"})
    return len(work.cells)


def timed(*command: str) -> Cost:
    """What a command costs in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "segbench", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(output)
    seconds = time.perf_counter() - begun
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(cells: int, cases: int) -> dict[str, Cost]:
    """The three commands on a store of that many cells."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SEGBENCH_CONFIG_DIR"] = str(folder / "config")
        grid, workspace = write_grid(folder, cells, cases), Workspace(folder / "runs")
        fill(grid, workspace)
        where = ("--workspace", str(workspace.root))
        golden = str(folder / "golden.csv")
        return {
            "run, all found": timed("run", str(grid), *where),
            "check --update": timed("check", "--golden", golden, "--update", *where),
            "check": timed("check", "--golden", golden, *where),
            "report": timed("report", *where),
        }


@click.command()
@click.option("--cells", multiple=True, type=int, default=(100, 1000, 10000), show_default=True)
@click.option("--cases", type=int, default=8, show_default=True, help="Cases of every cell.")
def main(cells: tuple[int, ...], cases: int) -> None:
    """Print a table: a line for each command and size."""
    table = Table("command", "cells", "seconds", "processor seconds", "MiB", title="The store")
    for count in cells:
        for name, cost in measure(count, cases).items():
            numbers = (f"{cost.wall:.1f}", f"{cost.processor:.1f}", f"{cost.memory:.0f}")
            table.add_row(name, str(count), *numbers)
    console.print(table)


if __name__ == "__main__":
    main()
