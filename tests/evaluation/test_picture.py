"""Pictures of attacked cases say what has changed, and no more."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from toys import Gains, Mixed, Ready, Silence

from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import DataSource, Options
from segbench.plugins.attack import load_attack
from segbench.store.pictures import kept_pictures, load_picture, pictured_cells
from segbench.store.workspace import Workspace

LIFT = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Lift:
    budget_kind = "linf"
    needs = "labels"
    by: float = 0.0

    def run(self, objective, images, goal, budget, noise):
        return (images + self.by).clamp(0, 1)
"""


@pytest.mark.parametrize("by", [0.0, 0.01])
def test_a_picture_says_by_how_much_its_image_was_changed(tmp_path: Path, by: float) -> None:
    (tmp_path / "lift.py").write_text(LIFT)
    workspace, data = Workspace(tmp_path / "runs"), Mixed()
    source = DataSource("mixed", data, "test", data.entries("test"))
    attack = load_attack(f"{tmp_path / 'lift.py'}:Lift:by={by}")
    grid = Grid([attack], [Fraction(4, 255)])
    run_model(Ready(Gains, "gains"), source, grid, workspace, Options("fp32", "cpu", 2), Silence())
    files = [
        path for key in pictured_cells(workspace) for path in kept_pictures(workspace, key).values()
    ]
    assert files
    for path in files:
        kept = load_picture(path)
        assert kept is not None
        assert kept.scale == pytest.approx(by, abs=1e-6 * bool(by))
        assert any(plane["change"].any() for plane in kept.planes) == bool(by)
