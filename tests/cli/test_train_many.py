"""Several seeds and whole suites in one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.store.workspace import Workspace
from segbench.training import suites
from segbench.training.card import find_checkpoints, load_card

DATA = "phantom-cxr:size=32,train_cases=8,test_cases=4"


def test_seeds_train_one_network_each_and_differ(segbench, tmp_path: Path) -> None:
    done = segbench("train", "unet:width=2,depth=1", "--dataset", DATA, "--epochs", "1",
                    "--seeds", "3,0", "--workspace", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    cards = [load_card(folder) for folder in find_checkpoints(Workspace(tmp_path))]
    assert [card.seed for card in cards] == [0, 3]
    assert cards[0].weights_sha256 != cards[1].weights_sha256


def test_a_suite_adds_its_networks_to_the_named_ones(segbench, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(suites, "_suites", lambda: {"tiny": ("unet:width=2,depth=1",)})
    done = segbench("train", "unet:depth=1,width=3", "--suite", "tiny", "--dataset", DATA,
                    "--epochs", "1", "--workspace", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    models = {load_card(folder).model for folder in find_checkpoints(Workspace(tmp_path))}
    assert models == {"unet:depth=1,width=3", "unet:depth=1,width=2"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--seeds", "0,x"), "is not a list of whole numbers"),
        (("--seeds", "0,0"), "names a seed twice"),
        (("--suite", "papr"), "did you mean 'paper'"),
        (("unet", "unet:wdith=3"), "did you mean 'width'"),
        (("unet", "unet:width=0"), "width is 0, expected 1 or more"),
        (("unet:width=2,depth=1", "nwcn", "--epochs", "1"), "at least as many epochs, not 1"),
    ],
)
def test_a_wrong_seed_suite_or_later_network_is_refused_before_any_training(
    segbench, tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    done = segbench("train", *arguments, "--dataset", DATA, "--workspace", tmp_path)
    assert done.exit_code == 2
    assert complaint in done.output
    assert not find_checkpoints(Workspace(tmp_path))
