"""peers.py compares like with like: one network, one kind of data, one score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

SIDE = 32
HALVES = """
import torch

class Halves(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(40.0))

    def forward(self, images):
        gray = images[:, :1]
        answer = torch.cat([-self.gain * (gray - level) ** 2 for level in (0.2, 0.5, 0.8)], 1)
        return {"out": answer.softmax(1)}

def build():
    return Halves()
"""
STILL = "1/100000"  # an eps that changes no answer of it


def write_data(folder: Path, *present: set[int]) -> None:
    """A test case for each set of classes: each has a half of its own, answered a quarter short."""
    lines = ["case_id,split"]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number, classes in enumerate(present):
        truth = np.zeros((SIDE, SIDE), np.uint8)
        shown = np.full((SIDE, SIDE), 51, np.uint8)
        for label in classes:
            half = slice((label - 1) * SIDE // 2, label * SIDE // 2)
            truth[half] = label
            shown[half, label * SIDE // 4 :] = (51, 128, 204)[label]
        Image.fromarray(shown).save(folder / "images" / f"c{number}.png")
        Image.fromarray(truth).save(folder / "masks" / f"c{number}.png")
        lines.append(f"c{number},test")
    (folder / "split.csv").write_text("\n".join([*lines, ""]))


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(HALVES)
    return tmp_path


def settings(**given: Any) -> dict[str, Any]:
    """Of three cases in ``data``."""
    asked = {
        "network": "net.py:build",
        "dataset": "folder:split=split.csv",
        "data_root": "data",
        "size": SIDE,
        "cases": 3,
        "steps": 2,
        "eps": STILL,
    }
    return asked | given


LACKING = {
    "a case with one class of two": [{1, 2}, {1}, {1, 2}],
    "a case with none": [{1, 2}, {1}, set()],
}


@pytest.mark.parametrize("present", LACKING.values(), ids=LACKING)
def test_every_contender_is_scored_as_tables_are(
    script, room: Path, present: list[set[int]]
) -> None:
    """Over the classes that a case has, then over the cases that have any."""
    write_data(room / "data", *present)
    contender, setting = script("contender"), script("setting").Setting(**settings())
    own = {1: 3 / 4, 2: 1 / 2}  # of each class what is answered
    expected = np.mean([np.mean([own[label] for label in case]) for case in present if case])
    assert contender.Ours("segbench fp32", setting).run()["jaccard"] == pytest.approx(expected)
    assert contender.Peer("hand loop", setting).run()["jaccard"] == pytest.approx(expected)


def test_that_is_what_segbench_attack_says(script, room: Path, segbench_says) -> None:
    write_data(room / "data", {1, 2}, {1}, {1, 2})
    setting = script("setting").Setting(**settings())
    timed = script("ours").attack_pgd(setting, setting.data(), "fp32")
    assert timed.jaccard == pytest.approx(segbench_says(room))
    assert timed.gradients > 0
    assert timed.processor > 0


@pytest.fixture
def segbench_says() -> Callable[[Path], float]:
    """The mean of the curve by the same attack."""
    from segbench.cli import main as segbench

    def ask(room: Path) -> float:
        done = CliRunner().invoke(segbench, [
            "attack", "-m", "net.py:build", "--dataset", f"folder:split=split.csv,size={SIDE}",
            "--data-root", "data", "-a", "pgd:steps=2,rel_step=0.25", "--eps", STILL, "--device",
            "cpu", "--precision", "fp32",
        ])  # fmt: skip
        assert done.exit_code == 0, done.output
        curves = load_tables(Workspace(room / "runs")).curves
        own = curves[(curves["metric"] == "jaccard") & (curves["budget"] > 0)]
        return float(own["mean"].iloc[0])

    return ask


def test_a_peer_attacks_the_network_as_segbench_does(script, room: Path) -> None:
    """Logits, whatever the network answers."""
    write_data(room / "data", {1, 2}, {1})
    peer = script("contender").Peer("hand loop", script("setting").Setting(**settings(cases=1)))
    answer = peer.network(peer.images)
    assert answer.shape == (1, 3, SIDE, SIDE)
    assert not answer.sum(1).allclose(answer.new_ones(()), atol=0.1)


UNLIKE = {
    "folder:split=split.csv,rois=fov": "pixels that do not count",
    "folder:split=split.csv,ignore=2": "pixels that do not count",
    'folder:split=split.csv,regions="all={1,2}; core={2}"': "structures that overlap",
}


@pytest.mark.parametrize("dataset", UNLIKE)
def test_data_on_which_a_loop_is_another_attack_are_refused(
    script, room: Path, dataset: str
) -> None:
    write_data(room / "data", {1, 2}, {1})
    (room / "data" / "fov").mkdir()
    for number in range(2):
        seen = np.zeros((SIDE, SIDE), np.uint8)
        seen[:, SIDE // 4 :] = 255
        Image.fromarray(seen).save(room / "data" / "fov" / f"c{number}.png")
    asked = ["--network", "net.py:build", "--dataset", dataset, "--size", str(SIDE)]
    done = CliRunner().invoke(script("peers").main, [*asked, "--data-root", "data"])
    assert done.exit_code == 2, done.output
    assert f"{UNLIKE[dataset]}: a loop by hand attacks whole images" in " ".join(
        done.output.split()
    )


def test_data_that_only_could_ignore_pixels_are_not(script, room: Path) -> None:
    write_data(room / "data", {1, 2}, {1})
    asked = settings(dataset="folder:split=split.csv,ignore=3", cases=2)
    setting = script("setting").Setting(**asked)
    assert len(setting.cases_of_a_loop(setting.data())) == 2


@pytest.mark.parametrize("name", ["peers", "limit", "precision", "scaling"])
@pytest.mark.parametrize("wrong", [["--network", "nix.py:build"], ["--size", "3"]])
def test_wrong_input_is_a_sentence(script, room: Path, name: str, wrong: list[str]) -> None:
    done = CliRunner().invoke(script(name).main, wrong)
    assert done.exit_code == 2, done.output
    assert done.output.splitlines()[-1].startswith("Error: ")


@pytest.mark.slow
def test_contenders_take_turns_and_stand_in_one_table(script, room: Path) -> None:
    write_data(room / "data", {1, 2}, {1})
    done = CliRunner().invoke(script("peers").main, [
        "--network", "net.py:build", "--dataset", "folder:split=split.csv", "--data-root", "data",
        "--size", str(SIDE), "--cases", "2", "--steps", "3", "--rounds", "1", "--eps", STILL,
        "--threads", "1", "-c", "segbench fp32", "-c", "hand loop",
    ], catch_exceptions=False)  # fmt: skip
    assert done.exit_code == 0, done.output
    scores = [line.split()[-2] for line in done.output.splitlines() if "fp32" in line]
    assert scores[-2:] == [f"{np.mean([5 / 8, 3 / 4]):.4f}"] * 2, json.dumps(done.output)
