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
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace


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
    """Seconds, gradients taken (one case, one step each) and the mean attacked Jaccard."""

    seconds: float
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
    """A whole run of a grid, in a workspace of its own; the score is that of the attacked rows."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        grid = Grid([load_attack(text) for text in attacks], [parse_eps(text) for text in eps])
        pairs = [(reference, data) for reference in references]
        run_grid(pairs, grid, workspace, options, Silent())
        seconds = time.perf_counter() - start
        rows = read_rows(workspace)
    cases = rows.drop_duplicates(["model", "attack", "budget", "case_id"])
    attacked = rows[rows["attack"] != "clean"]
    return Timed(
        seconds,
        int(cases["backwards"].sum()),
        float(attacked["jaccard"].mean()),
        ", ".join(sorted(set(attacked["precision"]))),
    )
