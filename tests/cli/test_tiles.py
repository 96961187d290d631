"""--tiles by the command line: equal scores where tiles cannot matter; another network."""

from __future__ import annotations

import subprocess
import sys
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


STRICT = """
import torch

class Strict(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        if images.shape[2:] != (16, 16):
            raise RuntimeError("it takes 16 x 16 alone")
        return torch.cat([self.gain * images, 1 - images], 1)

def build():
    return Strict()

def other():
    return Strict()
"""


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("net.py:build", ("--tta", "flips")),
        ("net.py:build", ("--front", "bit-depth")),
        ("net.py:build", ("--front", "bit-depth", "--tta", "flips")),
        ("ensemble:net.py:build+net.py:other", ()),
    ],
    ids=["flips", "front", "both", "ensemble"],
)
def test_a_network_within_another_is_looked_at_in_the_tiles_that_it_gets(
    model: str, more: tuple[str, ...], room: Path, segbench
) -> None:
    """It takes no other size; of whole images it was refused."""
    Path("net.py").write_text(STRICT)
    done = segbench("attack", "-m", model, *more, "-a", "fgsm", "--eps", "1/255", "--dataset",
                    "folder", "--data-root", room, "--tiles", "16", "--limit", "1")  # fmt: skip
    assert done.exit_code == 0, done.output


ASKED = """
import torch

class Asked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        with open("asked.txt", "a") as file:
            print(len(images), *images.shape[2:], file=file)
        return torch.cat([self.gain * images, 1 - images], 1)

def build():
    return Asked()
"""


def test_a_network_is_made_ready_on_two_tiles_and_not_on_all(room: Path, segbench) -> None:
    """Clean scores, a gradient (two passes), its scores and two pictures are of all the image."""
    Path("net.py").write_text(ASKED)
    done = segbench("attack", "-m", "net.py:build", "-a", "fgsm", "--eps", "1/255", "--dataset",
                    "folder", "--data-root", room, "--tiles", "12", "--overlap", "0.25",
                    "--batch-size", "1", "--limit", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    asked = Path("asked.txt").read_text().split("\n")
    tiles, passes = 4 * 5, 1 + 2 + 1 + 2
    ready = len([line for line in asked if line == "1 12 12"]) - tiles * passes
    assert 0 < ready < tiles


@pytest.mark.slow
def test_the_memory_of_a_volume_is_that_of_a_few_copies_of_it(monkeypatch) -> None:
    """Labels of 8 bytes a voxel, two logits of 4, and what a loss and its gradient need of them."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed is given back at once
    own = Path(__file__).parents[2] / "benchmarks" / "tile_memory.py"
    command = [sys.executable, str(own), "96x96x96", "192x160x160", "--tiles", "32", "--only",
               "tiled", "--overlap", "0", "--width", "2", "--steps", "2"]  # fmt: skip
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    small, large = (float(line.split()[2]) * 2**30 for line in lines[1:3])
    assert (large - small) / (192 * 160 * 160 - 96**3) < 90
