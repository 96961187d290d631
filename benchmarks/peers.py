"""segbench beside its peers: one command, one process each, in turn, medians and ratios.

    python benchmarks/peers.py
    python benchmarks/peers.py --network nlcen --size 224
    python benchmarks/peers.py --dataset volumes --size 64 --network unet16

Every contender attacks the same images of the same network by as many steps of the same size on
the same loss. A step's time is what one more step costs: the whole attack less one of a single
step. The start is everything else. The peers are timed over the attack alone, each with the batch
that is fastest for it; segbench over the whole of what `segbench attack` does: its start is loading
and probing the network, hashing, the clean scores, the last check and the store. The attacked
Jaccard, of the original network in fp32, stands beside the time, so that a faster but weaker attack
is seen at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from script import Script
from setting import Setting

NAMES = ("segbench", "segbench fp32", "hand loop", "torchattacks", "ART", "foolbox", "adv-lib",
         "cospgd")  # fmt: skip
CHILD = Path(__file__).with_name("contender.py")
console = Console(highlight=False, width=120)


@dataclass(eq=False)
class Process:
    """A contender's process and what it has answered."""

    name: str
    popen: subprocess.Popen[str]
    note: str = ""
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, setting: Setting, threads: int) -> Process:
        """Not yet ready; ``answer`` tells."""
        command = [sys.executable, str(CHILD), name, json.dumps(asdict(setting))]
        return cls(
            name,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            ),
        )

    def answer(self) -> dict[str, Any]:
        """Its next answer; whatever else the libraries print is passed over."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if line.startswith("@"):
                answer: dict[str, Any] = json.loads(line[1:])
                return answer
        raise SystemExit(f"{self.name} failed; its message is above")

    def run(self) -> None:
        """One round."""
        assert self.popen.stdin is not None
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()
        answer = self.answer()
        if answer["gradients"] == answer["first_gradients"]:
            raise SystemExit(
                f"{self.name}: every image is at the worst score after one step, so that no other "
                "is taken; name a trained checkpoint as --network"
            )
        self.rounds.append(answer)

    def stop(self) -> None:
        """No more rounds."""
        self.popen.communicate()

    @property
    def steps(self) -> list[float]:
        """Seconds of one more step of one image, by round, in ascending order."""
        return sorted(
            (r["seconds"] - r["first_seconds"]) / (r["gradients"] - r["first_gradients"])
            for r in self.rounds
        )

    @property
    def step(self) -> float:
        """Their median."""
        return median(self.steps)

    @property
    def rest(self) -> float:
        """Median seconds of everything else."""
        return median(r["seconds"] - self.step * r["gradients"] for r in self.rounds)


def race(names: tuple[str, ...], setting: Setting, rounds: int, threads: int) -> list[Process]:
    """All contenders, one after another, ``rounds`` times over; those that cannot run are named."""
    ready = list[Process]()
    with ExitStack() as started:
        for name in names:
            process = Process.start(name, setting, threads)
            started.callback(process.stop)
            answer = process.answer()
            if "skipped" in answer:
                console.print(f"{name} is left out: {answer['skipped']}")
                continue
            process.note = answer["ready"]
            ready.append(process)
        for _ in range(rounds):
            for process in ready:
                process.run()
    return ready


def show(processes: list[Process], title: str) -> None:
    """A row per contender: milliseconds of a step, seconds of the rest, ratios to ours, score."""
    table = Table(title=title, title_justify="left")
    for heading in ("contender", "gradients in", "ms / step / image", "rounds", "start s"):
        table.add_column(heading)
    ours = [p for p in processes if p.name.startswith("segbench")]
    for process in ours:
        table.add_column(f"× {process.name}", justify="right")
    table.add_column("attacked Jaccard", justify="right")
    for process in processes:
        table.add_row(
            f"{process.name}{f' ({process.note})' if process.note else ''}",
            process.rounds[0]["precision"],
            f"{1e3 * process.step:.3g}",
            f"{1e3 * process.steps[0]:.3g} – {1e3 * process.steps[-1]:.3g}",
            f"{process.rest:.1f}",
            *[f"{process.step / other.step:.2f}" for other in ours],
            f"{median(r['jaccard'] for r in process.rounds):.4f}",
        )
    console.print(table)


@click.command(cls=Script, help=__doc__)
@click.option("--network", default="unet32", show_default=True, help="Of networks.py, or as -m.")
@click.option("--weights", type=click.Path(exists=True), help="Weights of a path.py:factory.")
@click.option("--workspace", default="runs", show_default=True, help="Where -m finds checkpoints.")
@click.option("--dataset", default="phantom-cxr", show_default=True, help="Or volumes (3-D).")
@click.option("--data-root", type=click.Path(exists=True), help="The data set's folder.")
@click.option("--size", default=256, show_default=True)
@click.option("--cases", default=4, show_default=True)
@click.option("--steps", default=20, show_default=True)
@click.option("--eps", default="4/255", show_default=True)
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 4), show_default=True,
              help="Batch sizes a peer may choose from. Repeatable.")  # fmt: skip
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=os.cpu_count(), show_default="all")
@click.option("--device", default="cpu", show_default=True)
@click.option("-c", "--contender", "names", multiple=True, type=click.Choice(NAMES), default=NAMES,
              help="Only these. Repeatable.")  # fmt: skip
def main(names: tuple[str, ...], rounds: int, threads: int, **options: Any) -> None:
    """Race and show."""
    from segbench.engine.precision import choose_device, device_name

    setting = Setting(**options)
    data = setting.data()  # what is wrong with it is said here, once
    setting.cases_of_a_loop(data)
    setting.reference().load(data.dataset)
    title = (
        f"{setting.network}, {setting.dataset} at {setting.size}, {setting.cases} images, "
        f"PGD-{setting.steps} at {setting.eps}, {threads} threads, "
        f"{device_name(choose_device(setting.device))}"
    )
    show(race(names, setting, rounds, threads), title)


if __name__ == "__main__":
    main()
