"""What the progress bar says while cells run."""

from __future__ import annotations

import io
import re
from fractions import Fraction

import pandas as pd
import pytest
from rich.console import Console
from rich.progress import Progress

from segbench.api import Budget
from segbench.cli import display
from segbench.cli.display import AttackProgress, show_gate
from segbench.evaluation.grid import Cell
from segbench.plugins.attack import load_attack
from segbench.tables.golden import KEY
from segbench.tables.verdicts import compare_golden


def test_a_cell_that_is_busy_says_with_what_until_a_case_is_there() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    progress = Progress(console=console, auto_refresh=False)
    shown = AttackProgress(progress)
    shown.model("unet", 6)
    shown.cell("unet", Cell(load_attack("uap"), Budget("linf", Fraction(8, 255))))
    shown.busy("fitting on 7 cases, epoch 1 of 5")
    said = "unet · uap 8/255 · fitting on 7 cases, epoch 1 of 5"
    assert progress.tasks[shown.task].description == said
    assert said in console.file.getvalue()  # type: ignore[attr-defined]
    shown.cases(2, 1)
    task = progress.tasks[shown.task]
    assert (task.description, task.completed) == ("unet · uap 8/255", 3)
    assert (task.total, shown.computed, shown.found) == (6, 2, 1)


def golden(**values: float) -> pd.DataFrame:
    """A golden table of one network under PGD with that many steps, at 8/255."""
    facts = ["unet@jsrt#0", "jsrt", "test"], ["linf", 8 / 255, "jaccard"]
    rows = [
        [*facts[0], f"pgd:loss=ce,norm=linf,steps={steps.removeprefix('steps_')}", *facts[1]]
        for steps in values
    ]
    return pd.DataFrame(rows, columns=[*KEY]).assign(value=[*values.values()], cases=12)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What commands print on a terminal of 100 columns."""
    file = io.StringIO()
    monkeypatch.setattr(display, "console", Console(file=file, force_terminal=False, width=100))
    return file


def test_the_gate_shows_what_changed_failures_first_and_counts_the_rest(said: io.StringIO) -> None:
    before = golden(steps_1=0.9, steps_2=0.8, steps_3=0.7, steps_4=0.6, steps_5=0.5)
    now = golden(steps_1=0.9, steps_2=0.8, steps_3=0.9, steps_4=0.5, steps_6=0.5)
    show_gate(compare_golden(now, before, 0.01), 0.01, every=False)
    found = re.findall(
        r"(pgd:steps=\d) at 8/255\s+(\S+)\s+(\S+)\s+(\S+)\s+([\w-]+)", said.getvalue()
    )
    assert found == [
        ("pgd:steps=4", "0.6000", "0.5000", "-0.1000", "REGRESSION"),
        ("pgd:steps=5", "0.5000", "–", "–", "OTHER-ATTACK"),
        ("pgd:steps=3", "0.7000", "0.9000", "+0.2000", "better"),
        ("pgd:steps=6", "–", "0.5000", "–", "new"),
    ]
    assert "\n2 scores unchanged within tolerance 0.01" in said.getvalue()


def test_a_fall_that_may_be_chance_is_said_in_words(said: io.StringIO) -> None:
    comparison = compare_golden(golden(steps_1=0.8), golden(steps_1=0.9), 0.01)
    passed = comparison.assign(verdict="noise", sentence="cannot be told from chance.")
    show_gate(passed, 0.01, every=False)
    assert "• cannot be told from chance." in said.getvalue()


def test_the_gate_shows_every_score_if_asked_with_names_that_stay(said: io.StringIO) -> None:
    before = golden(steps_1=0.9, steps_2=0.8)
    comparison = compare_golden(golden(steps_1=0.9, steps_2=0.7), before, 0.01)
    show_gate(comparison, 0.01, every=True)
    assert said.getvalue().count("jaccard of unet@jsrt#0, pgd:steps=") == 2
    assert "unchanged" not in said.getvalue()
    show_gate(comparison, 0.01, every=False)
    assert said.getvalue().count("pgd:steps=2") == 2  # told apart from one that is not shown
