"""What commands show on the terminal: tables and progress, by rich."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from segbench.gate import FAILURES
from segbench.labels import eps_names

if TYPE_CHECKING:
    from pandas import DataFrame

    from segbench.api import Tables
    from segbench.grid import Cell

console = Console()
messages = Console(stderr=True)

_FACTS = {
    "model", "weights_sha256", "dataset", "dataset_fingerprint", "split", "attack",
    "attack_params", "budget_kind", "cases", "groups", "largest_eps", "relative_drop", "auc",
    "precision", "marks",
}  # fmt: skip


def show_summary(tables: Tables) -> None:
    """The table of robustness: per model and attack, mean Jaccard at every eps."""
    summary = tables.summary
    points = [
        column
        for column in summary.columns
        if column not in _FACTS and not column.endswith(("_low", "_high"))
    ]
    for dataset, lines in summary.groupby("dataset", sort=True):
        table = Table(title=f"Mean Jaccard on {dataset} (95 % interval in the report)")
        for name in ("model", "attack"):
            table.add_column(name, overflow="fold")
        for name in (*points, "AUC", "drop", "cases"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in lines.to_dict("records"):
            name = f"{line['model']} !" if line["marks"] else str(line["model"])
            table.add_row(
                name,
                str(line["attack"]),
                *(score(line[point]) for point in points),
                score(line["auc"]),
                percent(line["relative_drop"]),
                str(line["cases"]),
            )
        console.print(table)
    for note in tables.notes:
        console.print(f"• {note}", highlight=False)


def score(value: Any, decimals: int = 3, sign: str = "") -> str:
    """A metric in decimals, a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:{sign}.{decimals}f}"


def percent(value: Any) -> str:
    """A share in whole percent, a dash where there is none."""
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error, so that output can be piped."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages) as progress:
        yield progress


class AttackProgress:
    """Shows a run of cells; an ``executors.local.Listener``."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("loading", total=None)
        self.computed = 0
        self.found = 0
        self._total = 0

    def model(self, name: str, shards: int) -> None:
        """More shards to come."""
        self._total += shards
        self.progress.update(self.task, description=name, total=self._total)

    def cell(self, model: str, cell: Cell) -> None:
        """Another line of text."""
        eps = cell.budget.eps
        what = f"{cell.label} {eps_names([eps])[eps]}" if cell.attack else "clean"
        self.progress.update(self.task, description=f"{model} · {what}")

    def shard(self, computed: bool) -> None:
        """One more."""
        self.computed += computed
        self.found += not computed
        self.progress.advance(self.task)


class TrainingProgress:
    """Shows a training; a ``training.listener.Listener``."""

    def __init__(self, progress: Progress, name: str, epochs: int) -> None:
        self.progress, self.name = progress, name
        self.epochs = progress.add_task(name, total=epochs)

    def note(self, message: str) -> None:
        """A line above the bar."""
        self.progress.console.print(message, highlight=False)

    def batch(self, done: int, total: int) -> None:
        """A fraction of an epoch."""
        epoch = int(self.progress.tasks[self.epochs].completed)
        self.progress.update(self.epochs, completed=epoch + min(done / total, 0.999))

    def epoch(
        self, epoch: int, epochs: int, loss: float, jaccard: float | None, seconds: float
    ) -> None:
        """An epoch is over."""
        held_out = "" if jaccard is None else f" · val Jaccard {jaccard:.4f}"
        text = f"{self.name} · loss {loss:.4f}{held_out}"
        self.progress.update(self.epochs, description=text, completed=epoch, total=epochs)


def show_gate(comparison: DataFrame) -> None:
    """The gate's comparison, failures last, where a reader of a CI log looks first."""
    table = Table(title="Scores against the golden file")
    for name in ("model", "dataset", "attack", "eps", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("golden", "value", "difference", "verdict"):
        table.add_column(name, justify="right", no_wrap=True)
    names = eps_names(comparison["budget"].tolist())
    failed = comparison["verdict"].isin(FAILURES)
    for line in comparison.assign(failed=failed).sort_values("failed", kind="stable").to_dict(
        "records"
    ):
        style = "red" if line["failed"] else None
        table.add_row(
            str(line["model"]),
            str(line["dataset"]),
            str(line["attack"]),
            names[line["budget"]],
            str(line["metric"]),
            score(line["golden"], 4),
            score(line["value"], 4),
            score(line["difference"], 4, sign="+"),
            str(line["verdict"]),
            style=style,
        )
    console.print(table)
