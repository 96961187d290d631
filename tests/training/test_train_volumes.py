"""Training on volumes: repeatable like any other, whatever a CPU's bf16 kernels leave unset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segbench.api import Case, Entry
from segbench.store.workspace import Workspace
from segbench.training.card import LAST_FILE, load_card
from segbench.training.recipes import load_recipe
from segbench.training.train import train_model

NETWORK = "unet:width=16,depth=3"  # patches are half as wide; the deepest level has 2 voxels a side


class Cubes:
    """A bright cube on noise."""

    class_names, in_channels, spatial_dims = ("background", "cube"), 1, 3
    resize_rule, splits = "generated", ("train", "test")

    def entries(self, split: str) -> list[Entry]:
        return [Entry(f"{split}{n}", f"{split}{n}", (1, 32, 32, 32)) for n in range(4)]

    def load(self, case_id: str) -> Case:
        random = np.random.default_rng(int(case_id[-1]))
        labels = np.zeros((32, 32, 32), np.int64)
        labels[tuple(slice(start, start + 12) for start in random.integers(0, 20, 3))] = 1
        image = 0.3 * random.random((1, 32, 32, 32)) + 0.5 * labels
        return Case(case_id, case_id, image.astype(np.float32), labels, self.class_names)

    def fingerprint(self) -> str:
        return "cubes"


def leave_behind(value: float) -> None:
    """Fill memory that comes next with a number."""
    for size in (1_000, 30_000, 300_000, 3_000_000):
        for kind in (torch.float32, torch.bfloat16):
            torch.full((size,), value, dtype=kind)


@pytest.mark.parametrize("left", [0.5, float("nan")])
def test_weights_do_not_depend_on_what_the_memory_held(left: float, tmp_path: Path) -> None:
    changes = {"epochs": 2, "batch_size": 2, "validation_fraction": 0.0}
    recipe = load_recipe("quick", "cubes", changes)
    weights = []
    for name, value in (("a", 0.0), ("b", left)):
        leave_behind(value)
        workspace = Workspace(tmp_path / name)
        folder = train_model(NETWORK, Cubes(), "cubes", recipe=recipe, seed=0, workspace=workspace)
        weights.append((folder / LAST_FILE).read_bytes())
        assert load_card(folder).precision == "fp32"
    assert weights[0] == weights[1]
