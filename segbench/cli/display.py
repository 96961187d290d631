"""What commands show on the terminal: tables and progress, by rich."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from segbench.cli.consoles import console, messages
from segbench.cli.pace import Pace
from segbench.cli.summary import score
from segbench.cli.terminal import plain
from segbench.plugins.naming import attack_names, eps_names
from segbench.tables.verdicts import FAILURES, TOLD, UNCHANGED

if TYPE_CHECKING:
    from pandas import DataFrame

    from segbench.evaluation.grid import Cell


_EVERY = 30  # seconds between two lines in a pipe


class _Description(ProgressColumn):
    """What a task is at; rich's own would read it as markup."""

    def render(self, task: Task) -> Text:
        """The description, as it is."""
        return Text(plain(task.description))


class _Pace(ProgressColumn):
    """What the task says of its pace; rich's own estimate where it says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._remaining = TimeRemainingColumn()

    def render(self, task: Task) -> Text:
        """Gradients per second and time left."""
        said = task.fields.get("pace", "")
        return Text(said) if said else self._remaining.render(task)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error, so that output can be piped."""
    columns = (
        SpinnerColumn(),
        _Description(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Pace(),
    )
    with Progress(*columns, console=messages) as progress:
        yield progress


def show(progress: Progress, task: TaskID, text: str, **changes: float) -> None:
    """A task's new text; where the bar cannot be redrawn, as in a CI log, a line of its own."""
    progress.update(task, description=text, **changes)  # type: ignore[arg-type]
    if not progress.console.is_terminal:
        progress.console.print(text, soft_wrap=True)


class AttackProgress:
    """Shows a run of cells; an ``evaluation.request.Listener``."""

    def __init__(self, progress: Progress, planned: Mapping[str, int] | None = None) -> None:
        self.progress = progress
        self.task = progress.add_task("loading", total=None, pace="")
        self.pace = Pace(planned or {})
        self.computed = 0
        self.found = 0
        self._total = 0
        self._cell = ""
        self._label = ""
        self._whole = sum(self.pace.planned.values())
        self._told = time.monotonic()

    def model(self, name: str, scores: int) -> None:
        """More scores to come."""
        self._total += scores
        total = max(self._whole, self._total)
        self.progress.update(self.task, description=name, total=total)

    def cell(self, model: str, cell: Cell) -> None:
        """Another line of text."""
        point = (cell.budget.kind, cell.budget.eps)
        named = cell.attack or cell.certificate
        what = f"{cell.label} {eps_names([point])[point]}" if named else cell.label
        self._cell, self._label = f"{model} · {what}", cell.label
        self.pace.begin()
        show(self.progress, self.task, self._cell)

    def busy(self, what: str) -> None:
        """What a cell is at before its first case, or between two."""
        show(self.progress, self.task, " · ".join(filter(None, (self._cell, what))))

    def gradients(self, count: int) -> None:
        """So many more."""
        self.pace.gradients += count

    def cases(self, computed: int, found: int) -> None:
        """So many scores more."""
        self.progress.update(self.task, description=self._cell)
        self.computed += computed
        self.found += found
        self.pace.cases(self._label, computed, found)
        self.progress.update(self.task, advance=computed + found, pace=self.pace.said())
        self._tell()

    def _tell(self) -> None:
        """In a pipe, where no bar can be redrawn: now and then a line of how far it is."""
        now = time.monotonic()
        if not self.progress.console.is_terminal and now - self._told >= _EVERY:
            self._told = now
            done, total = self.computed + self.found, max(self._whole, self._total)
            line = f"{done} of {total} scores, {self.pace.said()}"
            self.progress.console.print(line, soft_wrap=True)

    def warn(self, sentence: str) -> None:
        """A line above the bar."""
        self.progress.console.print(f"Note: {sentence}", soft_wrap=True)


class TrainingProgress:
    """Shows a training; a ``training.listener.Listener``."""

    def __init__(self, progress: Progress, name: str, epochs: int) -> None:
        self.progress, self.name = progress, name
        self.epochs = progress.add_task(name, total=epochs)

    def note(self, message: str) -> None:
        """A line above the bar."""
        self.progress.console.print(message)

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
        show(self.progress, self.epochs, text, completed=epoch, total=epochs)


def show_gate(comparison: DataFrame, tolerance: float, *, every: bool) -> None:
    """A table per data set and split of what ``compare_golden`` gave, failures first.

    Scores that did not change are counted, and lines of the tables only if ``every`` one is to be.
    """
    attacks = attack_names(comparison["attack"])
    budgets = eps_names(zip(comparison["budget_kind"], comparison["budget"], strict=True))
    unchanged = comparison["verdict"] == UNCHANGED
    failed = comparison.assign(failed=comparison["verdict"].isin(FAILURES))
    shown = failed if every else failed[~unchanged]
    ordered = shown.sort_values("failed", ascending=False, kind="stable")
    for (dataset, split), part in ordered.groupby(["dataset", "split"], sort=False):
        title = f"Scores against the golden file on {dataset}, {split} split"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("score", overflow="fold")
        for name in ("golden", "value", "change", "verdict"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in part.to_dict("records"):
            point = f" at {budgets[line['budget_kind'], line['budget']]}" if line["budget"] else ""
            table.add_row(
                f"{line['metric']} of {line['model']}, {attacks[line['attack']]}{point}",
                score(line["golden"], 4),
                score(line["value"], 4),
                score(line["difference"], 4, sign="+"),
                str(line["verdict"]),
                style="red" if line["failed"] else None,
            )
        console.print(table)
        for line in part[part["failed"] | part["verdict"].isin(TOLD)].to_dict("records"):
            console.print(f"• {line['sentence']}")
    if unchanged.any() and not every:
        console.print(
            f"{unchanged.sum()} scores unchanged within tolerance {tolerance:g} (--all shows them)",
            soft_wrap=True,
        )
