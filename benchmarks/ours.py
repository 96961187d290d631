"""segbench itself as a contender: the public path of `segbench attack`, nothing subtracted.

Loading, preparing and probing the network, hashing weights and data, the clean cell, the fp32
scores, the checks in float64 and the Parquet shards are all inside the time.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from setting import Setting

from segbench.engine.precision import Policy
from segbench.evaluation.grid import Cell, Grid
from segbench.evaluation.request import DataSource, Options
from segbench.evaluation.run import run_grid
from segbench.networks import ModelReference
from segbench.plugins.attack import load_attack
from segbench.plugins.spec import parse_eps
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables


class Silent:
    """Told what happens; shows nothing."""

    def model(self, name: str, scores: int) -> None:
        """A model's cells begin."""

    def cell(self, model: str, cell: Cell) -> None:
        """A cell begins."""

    def busy(self, what: str) -> None:
        """Not shown."""

    def cases(self, computed: int, found: int) -> None:
        """Cases are there."""

    def gradients(self, count: int) -> None:
        """Not counted."""

    def warn(self, sentence: str) -> None:
        """Not shown."""


@dataclass(frozen=True)
class Timed:
    """What a run took, and what it left.

    Attributes:
        seconds: of wall clock.
        processor: seconds of this process, all its threads together.
        gradients: taken, one case and one step each.
        jaccard: attacked, as tables average it: over the classes that a case has, then over the
            cases that have any.
    """

    seconds: float
    processor: float
    gradients: int
    jaccard: float
    precision: str


def attack_pgd(setting: Setting, data: DataSource, precision: Policy) -> Timed:
    """PGD of the setting on its images, in a workspace of its own."""
    attack = f"pgd:steps={setting.steps},rel_step={setting.rel_step}"
    return timed_grid(
        [setting.reference()], data, (attack,), (setting.eps,), Options(precision, setting.device)
    )


def timed_grid(
    references: list[ModelReference],
    data: DataSource,
    attacks: tuple[str, ...],
    eps: tuple[str, ...],
    options: Options,
) -> Timed:
    """A whole run of a grid, in a workspace of its own."""
    start, processor = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        grid = Grid([load_attack(text) for text in attacks], [parse_eps(text) for text in eps])
        pairs = [(reference, data) for reference in references]
        run_grid(pairs, grid, workspace, options, Silent())
        seconds = time.perf_counter() - start
        processor = time.process_time() - processor
        cases = load_tables(workspace, every=True, depth="cases").cases
    attacked = cases[cases["attack"] != "clean"]
    return Timed(
        seconds,
        processor,
        int(cases["backwards"].sum()),
        float(attacked["jaccard"].mean()),
        ", ".join(sorted(set(attacked["precision"]))),
    )
