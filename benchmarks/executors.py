"""What several workers gain, and what a piece of work costs under each executor.

    python benchmarks/executors.py
    python benchmarks/executors.py --workers 2 --network unet16 --size 256 --cases 64
    python benchmarks/executors.py --no-overhead

Every number is the slope between a short and a long run of the same command, each in a process of
its own, so that starting (imports, workers, Ray) is in neither: of more cases for what workers
gain, of more cells, whose network costs next to nothing, for what a piece costs. One thread per
worker. Take it on an idle machine; the spread of the rounds is shown.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import click
from setting import NETWORKS

Slopes = list[float]


def seconds(folder: Path, threads: int, *command: str) -> float:
    """Wall-clock seconds of a command with so many threads.

    Raises:
        RuntimeError: it failed.
    """
    settings = {"OMP_NUM_THREADS": str(threads), "SEGBENCH_CONFIG_DIR": str(folder / "config")}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "segbench", "attack", *command],
        env=os.environ | settings,
        capture_output=True,
        cwd=folder,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return time.perf_counter() - begun


def attack(network: str, size: int, cases: int, attack: str, budgets: int) -> list[str]:
    """The command that attacks so many cases with so many budgets."""
    eps = ",".join(f"{n + 1}/2550" for n in range(budgets))
    return [
        "-m", f"{NETWORKS}:{network}", "--dataset", f"phantom-cxr:size={size},test_cases={cases}",
        "--limit", str(cases), "-a", attack, "--eps", eps, "--precision", "fp32", "--device", "cpu",
        "--no-pictures", "--split", "test",
    ]  # fmt: skip


def slope(folder: Path, threads: int, short: list[str], long: list[str], *executor: str) -> float:
    """Seconds of the long run beyond the short one."""
    took = []
    for command in (short, long):
        with tempfile.TemporaryDirectory(dir=folder) as workspace:
            whole = [*command, "--workspace", workspace]
            # Cases are read, and scored clean, before the clock starts.
            data, rest = whole[: whole.index("-a")], whole[whole.index("--eps") + 2 :]
            seconds(folder, threads, *data, "-a", "noise", "--eps", "1/255", *rest)
            took.append(seconds(folder, threads, *whole, *executor))
    return took[1] - took[0]


def said(name: str, slopes: Slopes, unit: float, what: str) -> str:
    """A line: median and range, in milliseconds of a unit."""
    each = sorted(1000 * one / unit for one in slopes)
    return f"{name:<24} {median(each):9.1f} ms {what} ({each[0]:.1f} – {each[-1]:.1f})"


@click.command(help=__doc__)
@click.option("--network", default="unet16", show_default=True)
@click.option("--size", default=256, show_default=True)
@click.option("--cases", default=64, show_default=True, help="More of the long run.")
@click.option("--steps", default=20, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--cells", default=40, show_default=True, help="More of the long run.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--gain/--no-gain", default=True, show_default=True)
@click.option("--overhead/--no-overhead", default=True, show_default=True)
def main(
    network: str,
    size: int,
    cases: int,
    steps: int,
    workers: int,
    cells: int,
    rounds: int,
    gain: bool,
    overhead: bool,
) -> None:
    """Both, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if gain:
            show_gain(folder, network, size, cases, steps, workers, rounds)
        if overhead:
            show_overhead(folder, cells, rounds)


def show_gain(
    folder: Path, network: str, size: int, cases: int, steps: int, workers: int, rounds: int
) -> None:
    """One worker and several, taking turns."""
    few = workers * 2
    short = attack(network, size, few, f"pgd:steps={steps}", 1)
    long = attack(network, size, few + cases, f"pgd:steps={steps}", 1)
    slopes: dict[int, Slopes] = {1: [], workers: []}
    for _ in range(rounds):
        for count, found in slopes.items():
            pool = ("--executor", "processes", "--workers", str(count))
            found.append(slope(folder, count, short, long, *pool))
    for count, found in slopes.items():
        workers_are = f"{count} worker{'s' * (count > 1)}"
        click.echo(said(workers_are, found, cases, f"a case of {network} at {size}"))
    if min(slopes[1] + slopes[workers]) <= 0:
        click.echo("a longer run took less time than a shorter one: the machine is not idle")
        return
    gained = median(slopes[1]) / median(slopes[workers])
    click.echo(f"{workers} workers are {gained:.2f} times as fast as one")


def show_overhead(folder: Path, cells: int, rounds: int) -> None:
    """A worker of each executor beside this process, taking turns; pieces of four cases."""
    pools = {"local": (), "processes": ("--executor", "processes", "--workers", "1")}
    if find_spec("ray"):
        pools["ray"] = ("--executor", "ray", "--workers", "1")
    short, long = (attack("pixel", 64, 4, "pgd:steps=1", count) for count in (10, 10 + cells))
    slopes: dict[str, Slopes] = {name: [] for name in pools}
    for _ in range(rounds):
        for name, pool in pools.items():
            slopes[name].append(slope(folder, 1, short, long, *pool))
    for name, found in slopes.items():
        click.echo(said(name, found, cells, "a piece of four cases, one convolution of 1 × 1"))


if __name__ == "__main__":
    main()
