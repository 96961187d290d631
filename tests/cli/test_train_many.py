"""Several seeds and whole suites in one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.store.workspace import Workspace
from segbench.training import session, suites
from segbench.training.card import Settings, find_checkpoints, load_card
from segbench.training.progress import Progress

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


class Interrupting:
    """Ends a training by Ctrl-C once so many epochs are saved; counts them, by seed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.epochs: list[int] = []
        self.stop_at = 0
        self._save = session.save_progress
        monkeypatch.setattr(session, "save_progress", self)

    def __call__(self, path: Path, settings: Settings, progress: Progress) -> None:
        self._save(path, settings, progress)
        self.epochs.append(settings.seed)
        if len(self.epochs) == self.stop_at:
            raise KeyboardInterrupt

    def until(self, epochs: int) -> None:
        self.epochs, self.stop_at = [], epochs


@pytest.mark.parametrize(("old", "again"), [("2", ("--resume",)), ("1", ("--force", "--resume"))])
@pytest.mark.parametrize(("stop_at", "left"), [(1, [0, 1, 1]), (2, [1, 1]), (3, [1]), (4, [])])
def test_a_forced_command_goes_on_with_resume_and_does_nothing_twice(
    segbench, tmp_path: Path, monkeypatch, old: str, again: tuple[str, ...], stop_at: int,
    left: list[int],
) -> None:  # fmt: skip
    """Its finished trainings are not done again, and those it has not come to are not left out."""
    interrupting = Interrupting(monkeypatch)
    command = ("train", "unet:width=2,depth=1", "--dataset", DATA, "--seeds", "0,1",
               "--workspace", tmp_path, "--epochs")  # fmt: skip
    assert segbench(*command, old).exit_code == 0
    interrupting.until(stop_at)
    done = segbench(*command, "2", "--force")
    assert done.exit_code == 130
    assert "the same command with --resume goes on from there" in " ".join(done.output.split())
    interrupting.until(0)
    done = segbench(*command, "2", *again)
    assert done.exit_code == 0, done.output
    assert interrupting.epochs == left
    cards = [load_card(folder) for folder in find_checkpoints(Workspace(tmp_path))]
    assert [len(card.history) for card in cards] == [2, 2]
    assert segbench(*command, "2", "--force").exit_code == 0
    assert interrupting.epochs == [*left, 0, 0, 1, 1]


def test_a_grid_that_forces_goes_on_where_its_training_was_interrupted(
    segbench, tmp_path: Path, monkeypatch
) -> None:
    interrupting = Interrupting(monkeypatch)
    grid = tmp_path / "grid.toml"
    grid.write_text(
        f'dataset = "{DATA}"\nattacks = ["fgsm"]\neps = ["1/255"]\nreports = ["csv"]\n'
        'limit = 1\n[train]\nmodels = ["unet:width=2,depth=1"]\nepochs = 3\nforce = true\n'
    )
    command = ("run", grid, "--workspace", tmp_path)
    for epochs in (2, 3):
        interrupting.until(epochs)
        done = segbench(*command)
        assert done.exit_code == 130
        assert "the same command goes on from there" in " ".join(done.output.split())
        interrupting.until(0)

        def interrupt(*_given: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("segbench.cli.evaluation.evaluate", interrupt)
            done = segbench(*command)
        assert interrupting.epochs == [0] * (3 - epochs)
        assert "without force in [train] the same command goes" in " ".join(done.output.split())


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
