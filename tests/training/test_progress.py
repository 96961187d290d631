"""The state of an unfinished training: as it was saved, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segbench.errors import UserError
from segbench.training.card import EpochScore, Settings
from segbench.training.progress import Progress, load_progress, save_progress
from segbench.training.recipes import load_recipe


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    settings = Settings(
        model="unet", parameters={"width": 4}, in_channels=1, num_classes=2, spatial_dims=2,
        class_names=("background", "thing"), dataset="folder", dataset_spec="folder",
        dataset_fingerprint="0" * 64, split="train", train_cases=("a", "b"),
        validation_cases=("c",), recipe=load_recipe("quick", "folder"), seed=0,
    )  # fmt: skip
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    state = {
        "state": {0: {"step": torch.tensor(1.0)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    score = EpochScore(loss=0.5, jaccard=0.25, seconds=1.0, gradients=6)
    progress = Progress([score], weights, state, 1, weights)
    save_progress(tmp_path / "training.pt", settings, progress)
    return tmp_path / "training.pt"


def plain(path: Path) -> str:
    settings, progress = load_progress(path)
    return f"{settings!r} {progress!r}"


def test_no_flipped_bit_of_it_goes_unseen(saved: Path) -> None:
    """One bit of every eleventh byte: another state is never gone on from."""
    content, expected = saved.read_bytes(), plain(saved)
    for place in range(0, len(content), 11):
        flipped = bytes([content[place] ^ 1 << place % 8])
        saved.write_bytes(content[:place] + flipped + content[place + 1 :])
        found, said = expected, ""
        try:
            found = plain(saved)
        except UserError as error:
            said = str(error)
        assert found == expected
        assert not said or str(saved) in said
