"""What the progress bar says while cells run."""

from __future__ import annotations

import io
from fractions import Fraction

from rich.console import Console
from rich.progress import Progress

from segbench.api import Budget
from segbench.attacks import load_attack
from segbench.cli.display import AttackProgress
from segbench.grid import Cell


def test_a_cell_that_is_busy_says_with_what_until_a_shard_is_there() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    progress = Progress(console=console, auto_refresh=False)
    shown = AttackProgress(progress)
    shown.model("unet", 2)
    shown.cell("unet", Cell(load_attack("uap"), Budget("linf", Fraction(8, 255))))
    shown.busy("fitting on 7 cases, epoch 1 of 5")
    said = "unet · uap 8/255 · fitting on 7 cases, epoch 1 of 5"
    assert progress.tasks[shown.task].description == said
    assert said in console.file.getvalue()  # type: ignore[attr-defined]
    shown.shard(computed=True)
    task = progress.tasks[shown.task]
    assert (task.description, task.completed) == ("unet · uap 8/255", 1)
