"""attack --until-settled: what it may cost, what all of its runs found, and what they left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

DATA = "phantom-cxr:size=32,train_cases=24,test_cases=6"

STUCK = """
import torch


class Stuck(torch.nn.Module):
    def forward(self, images):
        dark = 0.5 - torch.nn.functional.avg_pool2d(images, 5, 1, 2)
        return torch.tanh(1e6 * dark)


def build():
    return Stuck()
"""

PICKY = """
from dataclasses import dataclass
from segbench_attacks.fgsm import FGSM


@dataclass(frozen=True)
class Picky(FGSM):
    def init(self, context):
        raise RuntimeError("never")
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network whose gradients are zero, and what follows soon done."""
    monkeypatch.setattr("segbench.evaluation.settle.STRONGER", ("pgd:steps=2", "pgd:steps=3"))
    (tmp_path / "stuck.py").write_text(STUCK)
    (tmp_path / "picky.py").write_text(PICKY)
    return [
        *("attack", "-m", f"{tmp_path}/stuck.py:build", "--dataset", DATA, "--limit", "2"),
        *("--device", "cpu", "--split", "test", "--workspace", f"{tmp_path}/runs", "-a", "fgsm"),
        *("--eps", "8/255"),
    ]


def test_the_last_line_counts_what_all_runs_did(segbench: Any, asked: list[str]) -> None:
    done = segbench(*asked, "--until-settled")
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "run-00001 to run-00003: 8 scores computed, 4 found in" in said
    again = " ".join(segbench(*asked).output.split())
    assert "run-00004: 0 scores computed, 4 found in" in again


def test_what_was_left_out_is_said_after_all_runs(
    segbench: Any, asked: list[str], tmp_path: Path
) -> None:
    done = segbench(*asked, "-a", f"{tmp_path}/picky.py:Picky", "--until-settled")
    assert done.exit_code == 3, done.output
    said = " ".join(done.output.split())
    assert "run-00001 to run-00003: 8 scores computed, 4 found in" in said
    assert "run-00001 left out 2 of what was asked for" in said


def test_a_plan_says_what_may_follow_and_that_it_is_not_in_the_sum(
    segbench: Any, asked: list[str], tmp_path: Path
) -> None:
    said = " ".join(segbench(*asked, "--until-settled", "--plan").output.split())
    assert "with 4 scores" in said
    may = (
        "--until-settled: `standard` and then its thorough form may follow on what is in doubt, "
        "with at most 4 scores more; they are not in this sum"
    )
    assert may in said
    assert "until-settled" not in segbench(*asked, "--plan").output
    assert segbench(*asked).exit_code == 0
    stored = " ".join(segbench(*asked, "--until-settled", "--plan").output.split())
    assert "nothing is missing" in stored
    assert may in stored
    grid = tmp_path / "grid.toml"
    grid.write_text(
        f'models = ["{tmp_path}/stuck.py:build"]\ndataset = "{DATA}"\nlimit = 2\n'
        'split = "test"\nattacks = ["fgsm"]\neps = ["8/255"]\nuntil_settled = true\n'
    )
    for command in (("run", grid, "--plan"), ("check", "--plan", grid)):
        planned = segbench(*command, "--workspace", tmp_path / "others")
        assert may in " ".join(planned.output.split()), planned.output
