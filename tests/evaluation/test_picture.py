"""Pictures of attacked cases say what has changed, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import SHIFT, Gains, Mixed, Ready, Silence

from segbench.api import UNSCORED, Case, Entry
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import DataSource, Options
from segbench.plugins.attack import load_attack
from segbench.store.pictures import Kept, kept_pictures, load_picture, pictured_cells
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


def pictures_of(workspace: Workspace) -> list[Kept]:
    """All that were kept, and there are some."""
    cells = pictured_cells(workspace)
    files = [path for key in cells for path in kept_pictures(workspace, key).values()]
    found = [kept for path in files if (kept := load_picture(path)) is not None]
    assert found
    assert len(found) == len(files)
    return found


@pytest.mark.parametrize("by", [0.0, 0.01])
def test_a_picture_says_by_how_much_its_image_was_changed(tmp_path: Path, by: float) -> None:
    (tmp_path / "lift.py").write_text(LIFT)
    workspace, data = Workspace(tmp_path / "runs"), Mixed()
    source = DataSource("mixed", data, "test", data.entries("test"))
    attack = load_attack(f"{tmp_path / 'lift.py'}:Lift:by={by}")
    grid = Grid([attack], [Fraction(4, 255)])
    run_model(Ready(Gains, "gains"), source, grid, workspace, Options("fp32", "cpu", 2), Silence())
    for kept in pictures_of(workspace):
        assert kept.scale == pytest.approx(by, abs=1e-6 * bool(by))
        assert any(plane["change"].any() for plane in kept.planes) == bool(by)


class Parts(torch.nn.Module):
    """Right of every pixel: 0.3 is part 1, 0.6 part 2."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([0 * images, 60 * images - 12, 120 * images - 42], 1)


class Core(Parts):
    """The same of structures: the core is part 2, the whole both parts."""

    output = "sigmoid"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 60 * torch.cat([images - 0.5, images - 0.2], 1)


@dataclass(frozen=True)
class Balls:
    """Two balls, one in the other, of which a part is not known."""

    kind: str
    spatial_dims: int

    in_channels, resize_rule, splits = 1, "none", ("train", "test")

    @property
    def class_names(self) -> tuple[str, ...]:
        return ("background", "core", "whole") if self.kind == "regions" else ("none", "a", "b")

    def entries(self, split: str) -> list[Entry]:
        return [Entry(f"c{n}", f"c{n}", (1, *(16,) * self.spatial_dims)) for n in range(2)]

    def load(self, case_id: str) -> Case:
        axes = np.meshgrid(*[np.arange(16)] * self.spatial_dims, indexing="ij")
        distances = sum((axis - 7 - int(case_id[1:])) ** 2 for axis in axes)
        parts = (distances < 30).astype(np.int64) + (distances < 9)
        valid = axes[0] + axes[-1] > 12
        labels = parts if self.kind == "regions" else np.where(valid, parts, -100)
        return Case(
            case_id, case_id, (0.3 * parts)[None].astype(np.float32), labels, self.class_names,
            ignore_index=None if self.kind == "regions" else -100,
            regions=((2,), (1, 2)) if "regions" in self.kind else None,
            valid=valid if self.kind == "rois" else None,
        )  # fmt: skip

    def fingerprint(self) -> str:
        return f"{self.kind} {self.spatial_dims}"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["ignore", "rois", "regions", "regions, ignored"])
def test_what_is_right_wherever_it_is_scored_is_drawn_as_the_truth_is(
    kind: str, dims: int, tmp_path: Path
) -> None:
    """By the same outlines, whatever the network says where nothing is scored, moved or not."""
    (tmp_path / "shift.py").write_text(SHIFT)
    workspace, data = Workspace(tmp_path / "runs"), Balls(kind, dims)
    source = DataSource("balls", data, "test", data.entries("test"))
    grid = Grid([load_attack(f"{tmp_path / 'shift.py'}:Shift")], [])
    network = Ready(Core if "regions" in kind else Parts)
    run_model(network, source, grid, workspace, Options("fp32", "cpu", 2), Silence())
    for kept in pictures_of(workspace):
        assert len(kept.planes) == (1 if dims == 2 else 3)
        for plane in kept.planes:
            np.testing.assert_array_equal(plane["clean_labels"], plane["label"])
            np.testing.assert_array_equal(plane["adversarial_labels"], plane["adversarial_label"])
            assert (plane["label"] != plane["adversarial_label"]).any()
            shown = {0, 2} if "regions" in kind else {0, 1, 2}  # the whole is on top of its core
            assert shown <= {*np.unique(plane["label"])} <= {*shown, UNSCORED}
        hidden = [(plane["label"] == UNSCORED).any() for plane in kept.planes]
        assert any(hidden) == (kind != "regions")
