"""Time left, from the plan and what was measured so far; and what a grid will cost."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from segbench.cli import display, pace
from segbench.cli.display import AttackProgress
from segbench.cli.pace import Pace, duration


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(display, "time", clock)
    return clock


def test_each_kind_of_cell_goes_at_its_own_pace(clock):
    going = Pace({"clean": 10, "pgd": 40, "sea": 20})
    assert going.left is None
    going.begin()
    clock.now += 1  # ten clean scores in a second
    going.cases("clean", 10, 0)
    going.begin()
    clock.now += 20  # ten of pgd in twenty
    going.gradients += 400
    going.cases("pgd", 10, 0)
    assert going.left == pytest.approx(30 * 2 + 20 * 2)  # sea: as the slowest so far
    assert going.rate == pytest.approx(400 / 21)
    assert going.said() == "19 gradients/s, 2 min left"


def test_what_is_found_is_not_waited_for(clock):
    going = Pace({"pgd": 40})
    clock.now += 10
    going.cases("pgd", 10, 0)
    assert going.left == pytest.approx(30)
    going.cases("pgd", 0, 30)
    assert going.left == pytest.approx(0)


def test_a_pipe_is_told_now_and_then_how_far_it_is(clock):
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    shown = AttackProgress(Progress(console=console, auto_refresh=False), {"pgd": 40})
    shown.model("unet", 20)
    for _ in range(4):
        clock.now += 10
        shown._label = "pgd"
        shown.cases(5, 0)
    said = console.file.getvalue()
    assert said.count("of 40 scores") == 1
    assert "15 of 40 scores, 50 s left" in said
    assert shown.progress.tasks[shown.task].total == 40


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (600, "10 min"), (7200, "2.0 h"), (300000, "3.5 days")]
)
def test_a_time_is_said_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_check_plan_says_it_before_anybody_runs_it(segbench, workspace, tmp_path):
    few = ("--eps", "8/255", "--limit", "2", "--no-pictures", "--workspace", workspace)
    assert segbench("attack", "-a", "fgsm", *few).exit_code == 0
    grid = tmp_path / "grid.toml"
    grid.write_text('attacks = ["fgsm", "pgd"]\neps = ["2/255", "8/255"]\n')
    result = segbench("check", "--plan", grid, "--workspace", workspace)
    assert result.exit_code == 0, result.output
    lines = {line.split("  ")[0].split(", ")[-1]: line for line in result.output.splitlines()}
    assert lines["fgsm"].endswith("itself")
    assert lines["fgsm"].split()[2:5] == ["2", "10", "10"]  # what is lacking: 4 and 6 cases
    assert "nothing like it" in lines["pgd"]
    assert "1 of 3 lines have no measure here" in result.output
