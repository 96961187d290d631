"""Time against cases, eps values, steps and models, and the fixed overhead of a cell.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --network unet16 --size 224 --steps 8

With the default network, one 1x1 convolution, forward and backward cost next to nothing: what a
cell takes is loading, checking, scoring, hashing and storing. The overhead is fitted to

    seconds = models * (start + cases * load) + cells * (cell + cases * (case + steps * step))

over all runs below by least squares; wall-clock and processor seconds are shown.
"""

from __future__ import annotations

import os
from dataclasses import replace

import click
import numpy as np
from ours import timed_grid
from rich.console import Console
from rich.table import Table
from script import Script
from setting import Setting

from segbench.evaluation.request import Options

console = Console(highlight=False, width=120)
CASES, EPS, STEPS, MODELS = (4, 16, 64, 128), (1, 4, 16), (1, 4, 16), (1, 2, 4)


def measure(
    setting: Setting, eps_values: int, models: int, batch: int | None
) -> tuple[float, float]:
    """(wall-clock, processor) seconds of one run."""
    data = setting.data()
    attack = f"pgd:steps={setting.steps}"
    eps = tuple(f"{k + 1}/255" for k in range(eps_values))
    options = Options(device=setting.device, batch_size=batch)
    # A workspace takes each network once: its rows are the same.
    runs = [timed_grid([setting.reference()], data, (attack,), eps, options) for _ in range(models)]
    return sum(run.seconds for run in runs), sum(run.processor for run in runs)


def fit(runs: list[tuple[int, int, int, int]], seconds: list[float]) -> dict[str, float]:
    """Least squares for (cases, eps values, steps, models) -> seconds."""
    rows = []
    for cases, eps_values, steps, models in runs:
        cells = models * (eps_values + 1)  # and the clean one
        attacked = models * eps_values
        rows.append([models, models * cases, cells, cells * cases, attacked * cases * steps])
    weights = 1 / np.asarray(seconds)  # every run counts by its relative error
    solution, *_ = np.linalg.lstsq(
        np.asarray(rows) * weights[:, None], np.ones(len(rows)), rcond=None
    )
    return dict(zip(("start", "load", "cell", "case", "step"), solution.tolist(), strict=True))


@click.command(cls=Script, help=__doc__)
@click.option("--network", default="pixel", show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option("--cases", default=32, show_default=True, help="Where cases are not varied.")
@click.option("--steps", default=1, show_default=True, help="Where steps are not varied.")
@click.option("--batch", type=int, help="[default: by memory]")
@click.option("--device", default="cpu", show_default=True)
def main(network: str, size: int, cases: int, steps: int, batch: int | None, device: str) -> None:
    """Vary one thing at a time."""
    base = Setting(
        network=network,
        dataset="phantom-cxr:test_cases=128",
        size=size,
        cases=cases,
        steps=steps,
        device=device,
    )
    measure(replace(base, cases=2), 1, 1, batch)  # what is imported late is imported now
    plan = [(n, 1, steps, 1) for n in CASES]
    plan += [(cases, n, steps, 1) for n in EPS]
    plan += [(cases, 1, n, 1) for n in STEPS]
    plan += [(cases, 1, steps, n) for n in MODELS]
    # Both at once: what belongs to a cell, and what to a case of it.
    plan += [(CASES[0], EPS[-1], steps, 1), (CASES[-1], EPS[-1], steps, 1)]
    runs = sorted(set(plan))
    table = Table(
        title=f"{network} at {size}, {os.environ.get('OMP_NUM_THREADS', os.cpu_count())} threads",
        title_justify="left",
    )
    for heading in ("cases", "eps values", "steps", "models", "seconds", "processor seconds"):
        table.add_column(heading, justify="right")
    walls, processors = [], []
    for run in runs:
        n, eps_values, k, models = run
        wall, processor = measure(replace(base, cases=n, steps=k), eps_values, models, batch)
        walls.append(wall)
        processors.append(processor)
        table.add_row(*map(str, run), f"{wall:.3f}", f"{processor:.3f}")
    console.print(table)
    for name, seconds in (("wall-clock", walls), ("processor", processors)):
        cost = fit(runs, seconds)
        console.print(
            f"{name}: {1e3 * cost['start']:.0f} ms a model, {1e3 * cost['load']:.2f} ms to load a "
            f"case; {1e3 * cost['cell']:.1f} ms a cell and {1e3 * cost['case']:.2f} ms a case of "
            f"it; {1e3 * cost['step']:.2f} ms a step of a case"
        )


if __name__ == "__main__":
    main()
