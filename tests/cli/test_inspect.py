"""segbench inspect, and a stranger's network through the whole line."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

DATA = "phantom-cxr:size=32,train_cases=4,test_cases=4"
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.end = nn.Sigmoid()

    def forward(self, images):
        if any(size % 64 for size in images.shape[2:]):
            raise ValueError("sizes must be multiples of 64")
        return {"out": self.end(self.conv(images / 255))}

def build():
    return Net()
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def facts(output: str) -> dict[str, str]:
    return {line[:11].strip(): line[12:] for line in output.splitlines()}


def test_inspect_says_what_a_strangers_network_is(segbench, net: Path) -> None:
    done = segbench("inspect", f"{net}:build", "--normalize", "0-255", "--dataset", DATA)
    assert done.exit_code == 0, done.output
    found = facts(done.output)
    assert found["parameters"] == "10"
    assert "probabilities by sigmoid, found at 'out'" in found["answer"]
    assert "stripped" in found["answer"]
    assert "multiples of 64" in found["stride"]
    assert found["gradients"].startswith("flow")
    assert found["marks"] == "none"
    # 64 x 64 positions, 9 multiplications and as many additions each.
    assert float(found["FLOPs"].split()[0]) * 1e9 == pytest.approx(2 * 9 * 64 * 64, rel=0.01)


def test_inspect_shows_the_gradient_that_attacks_follow(segbench, tmp_path: Path) -> None:
    """Autograd gives max-unpooling's places none, which attacks do know of."""
    net = tmp_path / "places.py"
    net.write_text("""
import torch
from torch import nn

class Places(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, images):
        values, places = self.pool(images)
        return self.unpool(torch.ones_like(values), places) - 0.5 + 0 * images

def build():
    return Places()
""")
    done = segbench("inspect", f"{net}:build", "--dataset", DATA)
    assert done.exit_code == 0, done.output
    assert facts(done.output)["gradients"].startswith("flow")
    assert "unpooling" in facts(done.output)["marks"]


def test_inspect_takes_a_spec_that_is_not_trained(segbench, tmp_path: Path) -> None:
    done = segbench("inspect", "unet:width=2,depth=1", "--dataset", DATA, "--workspace", tmp_path)
    assert done.exit_code == 0, done.output
    assert facts(done.output)["batch norm"] == "6, folded for gradients"
    wrong = segbench("inspect", "unett", "--dataset", DATA, "--workspace", tmp_path)
    assert wrong.exit_code == 2
    assert "did you mean 'unet'" in wrong.output


def test_a_trained_network_is_shown_what_it_was_trained_on_unless_other_data_are_named(
    segbench, tmp_path: Path
) -> None:
    """As attack does; its own data are found by the card, with the folder that is remembered."""
    assert segbench("train", "unet:width=2,depth=1", "--dataset", DATA, "--epochs", "1",
                    "--workspace", tmp_path).exit_code == 0  # fmt: skip
    (folder,) = (tmp_path / "models").iterdir()
    for model in (["unet:width=2,depth=1"], [str(folder)], [str(folder), "--tta", "flips"]):
        done = segbench("inspect", *model, "--workspace", tmp_path)
        assert done.exit_code == 0, done.output
        assert "image of (1, 32, 32)" in facts(done.output)["FLOPs"]
        words = shlex.split(facts(done.output)["next"])
        assert "--dataset" not in words
        attacked = segbench(*words[1:], "-a", "fgsm", "--limit", "1", "--workspace", tmp_path)
        assert attacked.exit_code == 0, attacked.output
    other = "phantom-cxr:size=64,test_cases=4,train_cases=4"
    done = segbench("inspect", str(folder), "--dataset", other, "--workspace", tmp_path)
    assert "image of (1, 64, 64)" in facts(done.output)["FLOPs"]
    assert f"--dataset {other} " in facts(done.output)["next"]
    refused = segbench("inspect", f"ensemble:{folder}", "--workspace", tmp_path)
    assert (refused.exit_code, "has one member" in refused.output) == (2, True)


def test_members_of_several_data_sets_have_none_of_their_own(segbench, tmp_path: Path) -> None:
    for size in ("size=32", "size=64"):
        done = segbench("train", "unet:width=2,depth=1", "--epochs", "1", "--workspace", tmp_path,
                        "--dataset", DATA.replace("size=32", size))  # fmt: skip
        assert done.exit_code == 0
    both = "ensemble:" + "+".join(str(folder) for folder in (tmp_path / "models").iterdir())
    for command in (("inspect", both), ("attack", "-m", both, "--eps", "0.1")):
        refused = segbench(*command, "--workspace", tmp_path)
        assert refused.exit_code == 2
        assert "name its data with --dataset" in " ".join(refused.output.split())
    done = segbench("inspect", both, "--dataset", DATA, "--workspace", tmp_path)
    assert done.exit_code == 0, done.output


def test_a_strangers_network_is_attacked_as_it_is(segbench, net: Path, tmp_path: Path) -> None:
    """In a dictionary, as probabilities, on another scale, at a stride of 64; and as an archive."""
    archive = tmp_path / "archive.pt"
    plain = nn.Conv2d(1, 2, 3, padding=1)
    torch.jit.trace(plain, torch.rand(1, 1, 32, 32)).save(str(archive))  # type: ignore[no-untyped-call]
    for extra in (("-m", f"{net}:build", "--normalize", "0-255"), ("-m", archive)):
        done = segbench("attack", *extra, "-a", "pgd:steps=2", "--eps", "8/255",
                        "--dataset", DATA, "--workspace", tmp_path)  # fmt: skip
        assert done.exit_code == 0, done.output
    rows = read_rows(Workspace(tmp_path))
    attacked = rows[rows["attack"] != "clean"]
    assert set(attacked["model"]) == {"net:build", "archive.pt"}
    assert attacked["linf"].gt(0.03).all()
    assert attacked.loc[attacked["model"] == "archive.pt", "precision"].str.startswith("fp32").all()


def test_normalize_without_a_network_of_ones_own_is_refused(segbench, workspace: Path) -> None:
    done = segbench("attack", "--normalize", "zscore", "--eps", "0.1", "--workspace", workspace,
                    "-m", "unet:width=4,depth=2")  # fmt: skip
    assert done.exit_code == 2
    assert "belongs to no network of your own" in done.output


def test_an_rgb_network_is_shown_gray_images_only_when_asked_for(segbench, tmp_path: Path) -> None:
    net = tmp_path / "rgb.py"
    net.write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 2, 1)\n")
    command = ("inspect", f"{net}:build", "--dataset", DATA)
    refused = segbench(*command)
    assert refused.exit_code == 2
    assert "give --channels repeat" in refused.output
    done = segbench(*command, "--channels", "repeat", "--normalize", "imagenet")
    assert done.exit_code == 0, done.output
    assert facts(done.output)["parameters"] == "8"


def test_a_network_that_ends_the_process_is_an_error_with_its_name(
    segbench, tmp_path: Path
) -> None:
    net = tmp_path / "leaving.py"
    net.write_text(
        "import sys\nfrom torch import nn\n\nclass Leaving(nn.Conv2d):\n"
        "    def forward(self, images):\n        sys.exit(0)\n\n"
        "def build():\n    return Leaving(1, 2, 1)\n"
    )
    done = segbench("attack", "-m", f"{net}:build", "-a", "fgsm", "--eps", "0.1",
                    "--dataset", DATA, "--workspace", tmp_path / "runs")  # fmt: skip
    assert done.exit_code == 3
    words = "model leaving:build: the network tried to end the process (SystemExit: 0)"
    assert words in " ".join(done.output.split())
