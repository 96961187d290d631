"""--tiles by the command line: equal scores where tiles cannot matter; another network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

NET = """
import torch

class Pointwise(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, images):
        return {"out": torch.sigmoid(self.gain * (images - 0.5))}

def build():
    return Pointwise()
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for n in range(2):
        image = random.integers(0, 256, (37, 45), dtype=np.uint8)
        Image.fromarray(image).save(f"data/images/{n}.png")
        Image.fromarray((image > 127).astype(np.uint8) * 255).save(f"data/masks/{n}.png")
    return tmp_path / "data"


def test_tiles_change_no_score_of_a_pixelwise_network(room: Path, segbench) -> None:
    asked = ("attack", "-m", "net.py:build", "-a", "pgd:steps=3", "--eps", "20/255", "--dataset",
             "folder", "--data-root", room)  # fmt: skip
    scores = []
    for runs, more in (("whole", ()), ("tiled", ("--tiles", "16", "--overlap", "0.25"))):
        done = segbench(*asked, "--workspace", runs, *more)
        assert done.exit_code == 0, done.output
        rows = read_rows(Workspace(Path(runs))).sort_values(["attack", "case_id"])
        scores.append(rows["dice"].to_numpy())
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    assert scores[0].min() < 0.9
    again = segbench(*asked, "--workspace", "whole", "--tiles", "16")
    assert "4 scores computed" in again.output  # it is another network


def test_what_is_no_tile_is_one_sentence(room: Path, segbench) -> None:
    for wrong, words in (("0", "is no size of tiles"), ("8x8x8", "these images have 2 axes")):
        done = segbench("attack", "-m", "net.py:build", "-a", "fgsm", "--eps", "1/255", "--dataset",
                        "folder", "--data-root", room, "--tiles", wrong)  # fmt: skip
        assert done.exit_code == 2
        assert words in " ".join(done.stderr.split())
