"""Seconds, memory and bytes of the page of a large grid: of 20 networks by 10 attacks, by default.

    python benchmarks/page.py
    python benchmarks/page.py --keep DIR      leaves the store there, to profile

The rows are generated as in ``store.py``, but fall with eps as attacked scores do: every case by a
rate of its own, every network and attack by theirs, with some chance. Seconds of processor are what
counts: on a machine that others use too they grow least.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from store import NETWORK, fill, timed

from segbench.store.workspace import Workspace

console = Console(highlight=False, width=120)
_CHANCE = 0.03  # standard deviation of a score about its curve


def write_grid(folder: Path, networks: int, attacks: int, points: int, cases: int) -> Path:
    """A grid file of that size beside its networks; eps from 1/255 up."""
    paths = [folder / f"net{number:02d}.py" for number in range(networks)]
    for number, path in enumerate(paths):
        path.write_text(NETWORK.format(slope=8 + number))
    grid = folder / "grid.toml"
    grid.write_text(
        f"models = {[f'{path}:build' for path in paths]}\n"
        f"attacks = {[f'noise:restarts={n}' for n in range(1, attacks + 1)]}\n"
        f"eps = {[f'{n}/255' for n in range(1, points + 1)]}\n"
        f'dataset = "phantom-cxr:size=32,test_cases={cases},train_cases=2"\n'
        'device = "cpu"\nprecision = "fp32"\nreports = []\n'
    )
    return grid


def falling(cells: Sequence[Mapping[str, Any]], rows: int) -> NDArray[np.float64]:
    """What is left of each row at each cell's budget: exp(-rate x eps), and some chance."""
    frail = np.random.default_rng(0).gamma(4, 0.25, rows)
    shares = np.empty((len(cells), rows))
    for place, cell in enumerate(cells):
        pair = f"{cell['network_sha256']} {cell['attack_params']}"
        seed = int(hashlib.sha256(pair.encode()).hexdigest()[:8], 16)
        rate = np.random.default_rng(seed).uniform(20, 60)
        chance = np.random.default_rng([seed, place]).normal(0, _CHANCE, rows)
        shares[place] = np.clip(np.exp(-rate * cell["budget"] * frail) + chance, 0, 1)
    return shares


@click.command()
@click.option("--networks", default=20, show_default=True)
@click.option("--attacks", default=10, show_default=True)
@click.option("--points", default=8, show_default=True, help="Values of eps.")
@click.option("--cases", default=500, show_default=True, help="Cases of every cell.")
@click.option("--rounds", default=3, show_default=True, help="Medians are of so many.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where the store is left.")
def main(
    networks: int, attacks: int, points: int, cases: int, rounds: int, keep: Path | None
) -> None:
    """Print a line: what `segbench report -f html` costs, and the size of what it writes."""
    with tempfile.TemporaryDirectory() as name:
        folder = keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["SEGBENCH_CONFIG_DIR"] = str(folder / "config")
        workspace = Workspace(folder / "runs")
        if not workspace.root.exists():
            grid = write_grid(folder, networks, attacks, points, cases)
            fill(grid, workspace, falling)
            timed("run", str(grid), "--workspace", str(workspace.root))  # asks for all of it
        costs = [
            timed("report", "-f", "html", "--workspace", str(workspace.root)) for _ in range(rounds)
        ]
        page = workspace.reports / "report.html"
        size = page.stat().st_size / 1e6
    asked = f"{networks} networks x {attacks} attacks x {points} eps x {cases} cases"
    table = Table("seconds", "processor seconds", "MiB", "page, MB", title=f"The page: {asked}")
    wall, processor, memory = (
        median(getattr(cost, name) for cost in costs) for name in ("wall", "processor", "memory")
    )
    table.add_row(f"{wall:.1f}", f"{processor:.1f}", f"{memory:.0f}", f"{size:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
