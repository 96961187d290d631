"""Training: deterministic, exactly resumable, honest about what it held out."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.api import Case, Entry
from segbench.errors import MachineError, UserError
from segbench.plugins import registry
from segbench.store.workspace import Workspace
from segbench.training.card import (
    BEST_FILE,
    LAST_FILE,
    UNFINISHED_FILE,
    load_card,
)
from segbench.training.cases import CaseMemory
from segbench.training.checkpoint import load_checkpoint
from segbench.training.listener import Silence
from segbench.training.loop import validate, warm_cosine
from segbench.training.progress import load_progress, save_progress
from segbench.training.recipes import Recipe, load_recipe
from segbench.training.train import train_model
from segbench.training.weights import load_weights


class Squares:
    """Bright squares on noise, with values off the 8-bit grid; two cases to a group."""

    class_names = ("background", "square")
    in_channels = 1
    spatial_dims = 2
    resize_rule = "generated"
    splits = ("train", "test")

    def __init__(self, cases: int = 12, sizes: tuple[int, ...] = (16, 20)) -> None:
        self.cases, self.sizes = cases, sizes

    def entries(self, split: str) -> list[Entry]:
        return [
            Entry(f"{split}{i}", f"{split}-patient{i // 2}", (1, 16, self.sizes[i % 2]))
            for i in range(self.cases)
        ]

    def load(self, case_id: str) -> Case:
        number = int(case_id.removeprefix("train").removeprefix("test"))
        random = np.random.default_rng(number + 100 * case_id.startswith("test"))
        shape = (16, self.sizes[number % 2])
        labels = np.zeros(shape, np.int64)
        top, left = random.integers(0, 8, 2)
        labels[top : top + 7, left : left + 7] = 1
        image = 0.3 * random.random((1, *shape)) + 0.5 * labels
        labels[0] = 255
        return Case(
            case_id,
            case_id,
            image.astype(np.float32),
            labels,
            self.class_names,
            ignore_index=255,
        )

    def fingerprint(self) -> str:
        return f"squares {self.cases}"


class Tiny(nn.Module):
    """Batch norm and dropout, so that state and random numbers matter."""

    def __init__(self, in_channels: int, num_classes: int, width: int, aux: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 5, padding=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(0.2),
        )
        self.head = nn.Conv2d(width, num_classes, 1)
        self.aux = aux

    def forward(self, images: Tensor) -> Any:
        features = self.body(images)
        logits = self.head(features)
        if self.training and self.aux:
            return logits, [self.head(nn.functional.max_pool2d(features, 2))]
        return logits


class Staged(Tiny):
    """Trained in two stages; the second brings a layer and freezes the body."""

    def stages(self) -> list[str]:
        return ["body", "refine"]

    def enter_stage(self, stage: str) -> None:
        if stage == "refine":
            self.body.requires_grad_(False)
            self.head = nn.Sequential(self.head, nn.Conv2d(2, 2, 3, padding=1))


class OwnLoss(Tiny):
    """Brings a loss that pulls all its logits to 3."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.float() - 3).square().mean()


class Diverging(Tiny):
    """Its loss is no number."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.float().mean() * torch.nan


class Huge(Tiny):
    """Asks for more memory than any machine has."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros(2**60).sum() + outputs.sum()


class Leaving(Tiny):
    """Ends the process, as a script does."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        raise SystemExit(0)


class Pooled(Tiny):
    """Normalises one value per channel and case."""

    def forward(self, images: Tensor) -> Any:
        return self.head(self.body(images) + self.body(images.mean((2, 3), keepdim=True)))


KINDS = {
    "leaving": Leaving,
    "pooled": Pooled,
    "huge": Huge,
    "tiny": Tiny,
    "staged": Staged,
    "own-loss": OwnLoss,
    "diverging": Diverging,
}


def load_kind(kind: str, name: str) -> registry.Plugin:
    def build(
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        width: int = 6,
        aux: bool = False,
    ) -> nn.Module:
        return KINDS[name](in_channels, num_classes, width, aux)

    return registry.Plugin("models", name, build, "segbench", "0")


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", load_kind)


def recipe(**changes: object) -> Recipe:
    short = {"epochs": 4, "batch_size": 4, "learning_rate": 0.02, "validation_fraction": 0.3}
    return load_recipe("quick", "squares", {**short, "warmup_epochs": 0.5, **changes})


def train(root: Path, model: str = "tiny", **options: Any) -> Path:
    defaults = {"recipe": recipe(), "seed": 0, "workspace": Workspace(root)}
    return train_model(model, Squares(), "squares", **{**defaults, **options})


def both_weights(folder: Path) -> tuple[bytes, bytes]:
    return (folder / BEST_FILE).read_bytes(), (folder / LAST_FILE).read_bytes()


class StopAfter(Silence):
    """Interrupts a training after some epochs, and keeps what it heard."""

    def __init__(self, epochs: int = 0) -> None:
        self.stop_at, self.notes, self.batches, self.epochs = epochs, [], [], []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def batch(self, done: int, total: int) -> None:
        self.batches.append((done, total))

    def epoch(
        self, epoch: int, epochs: int, loss: float, jaccard: float | None, seconds: float
    ) -> None:
        self.epochs.append(epoch)
        if epoch == self.stop_at:
            raise KeyboardInterrupt


# ---------------------------------------------------------------------------- the same every time


@pytest.mark.parametrize("model", ["tiny", "tiny:aux=true", "staged"])
def test_one_seed_gives_one_result_bit_for_bit_and_another_another(
    tmp_path: Path, model: str
) -> None:
    first, second, other = (
        both_weights(train(tmp_path / name, model, seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == second
    assert first[1] != other[1]


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
@pytest.mark.parametrize("model", ["tiny", "staged"])
def test_an_interrupted_training_ends_like_one_that_was_not(
    tmp_path: Path, model: str, stop_after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", model, listener=StopAfter(stop_after))
    torch.rand(7)  # whatever else has drawn random numbers
    listener = StopAfter()
    resumed = train(tmp_path / "a", model, resume=True, listener=listener)
    whole = train(tmp_path / "b", model)
    assert listener.epochs == list(range(stop_after + 1, 5))
    assert both_weights(resumed) == both_weights(whole)
    assert [s.loss for s in load_card(resumed).history] == [
        s.loss for s in load_card(whole).history
    ]
    assert not (resumed / UNFINISHED_FILE).exists()
    card = load_card(resumed)
    # What marks a copy of a case that was learnt from, whoever read it.
    assert card.contents == load_card(whole).contents
    assert card.contents.keys() == {*card.train_cases, *card.validation_cases}


def test_of_a_state_that_does_not_say_what_it_read_every_case_is_read(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, listener=StopAfter(4))
    state = tmp_path / "models" / "tiny@squares#0" / UNFINISHED_FILE
    settings, progress = load_progress(state)
    assert len(progress.contents) == 12
    progress.contents = {}
    save_progress(state, settings, progress)
    card = load_card(train(tmp_path, resume=True))
    assert card.contents == {name: Squares().load(name).sha256 for name in card.contents}
    assert card.contents.keys() == {*card.train_cases, *card.validation_cases}


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
import {module} as here
from segbench.plugins import registry
registry.load = here.load_kind
class Announce(here.Silence):
    def batch(self, done, total):
        print(done, flush=True)
        time.sleep(0.2)
here.train(Path({workspace!r}), recipe=here.recipe(epochs=12), listener=Announce())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_training_killed_in_the_middle_of_an_epoch_goes_on_exactly(tmp_path: Path) -> None:
    """Until then no other process trains in its folder; its lock dies with it."""
    here = Path(__file__)
    script = KILLED.format(folder=str(here.parent), module=here.stem, workspace=str(tmp_path / "a"))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert process.stdout is not None
    for _ in range(8):  # batches: well into the third epoch or later
        process.stdout.readline()
    for options in ({}, {"resume": True}, {"force": True}, {"recipe": recipe(epochs=12)}):
        with pytest.raises(UserError, match="is being trained by another process; wait for it"):
            train(tmp_path / "a", **options)
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    process.wait()
    state = tmp_path / "a" / "models" / "tiny@squares#0" / UNFINISHED_FILE
    assert state.exists()
    done = len(json.loads(torch.load(state, weights_only=True)["history"]))
    assert 0 < done < 12
    long = recipe(epochs=12)
    resumed = train(tmp_path / "a", recipe=long, resume=True)
    assert both_weights(resumed) == both_weights(train(tmp_path / "b", recipe=long))


# ------------------------------------------------------------------------------ what is held out


def test_no_patient_is_on_both_sides_and_no_case_is_lost(tmp_path: Path) -> None:
    card = load_card(train(tmp_path, recipe=recipe(epochs=1)))
    patients = {entry.case_id: entry.group_id for entry in Squares().entries("train")}
    training, validation = set(card.train_cases), set(card.validation_cases)
    assert training | validation == set(patients)
    assert not {patients[c] for c in training} & {patients[c] for c in validation}
    assert len({patients[c] for c in validation}) == round(0.3 * 6)


def test_the_card_s_scores_are_those_of_its_weights(tmp_path: Path) -> None:
    folder = train(tmp_path)
    network, card = load_checkpoint(folder)
    memory = CaseMemory(Squares())
    assert card.best_jaccard == validate(network, memory, card.validation_cases, 2)
    load_weights(network, folder / LAST_FILE)
    assert card.last_jaccard == validate(network, memory, card.validation_cases, 2)
    scores = [score.jaccard for score in card.history]
    latest = max(range(4), key=lambda i: (scores[i], i))
    assert (card.best_epoch, card.best_jaccard) == (latest + 1, max(scores))


def test_with_nothing_held_out_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    folder = train(tmp_path, recipe=recipe(validation_fraction=0.0))
    card = load_card(folder)
    best, last = both_weights(folder)
    assert best == last
    assert (card.best_epoch, card.best_jaccard, card.validation_cases) == (4, None, ())


def test_training_learns_what_an_untrained_network_does_not_know(tmp_path: Path) -> None:
    network, card = load_checkpoint(train(tmp_path, recipe=recipe(epochs=25, coarse_epochs=0.3)))
    test = [entry.case_id for entry in Squares().entries("test")]
    untrained = Tiny(1, 2, 6, False)
    memory = CaseMemory(Squares())
    assert validate(network, memory, test, 2) > 0.8 > validate(untrained, memory, test, 2)
    assert card.history[-1].loss < card.history[0].loss / 2


def test_a_network_s_own_loss_is_the_one_that_falls(tmp_path: Path) -> None:
    """Logits that were near 0 everywhere are near 3 after it, on images never seen too."""
    folder = train(tmp_path, "own-loss", recipe=recipe(epochs=40, learning_rate=0.05))
    network, card = load_checkpoint(folder)
    load_weights(network, folder / LAST_FILE)  # the best are chosen by Jaccard, not by this loss
    memory = CaseMemory(Squares())
    images = [memory[entry.case_id][0] for entry in Squares().entries("test")]
    assert all(abs(network(image[None]).mean().item() - 3) < 1 for image in images)
    assert card.history[-1].loss < card.history[0].loss / 4


# -------------------------------------------------------------------------- what is already there


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    folder = train(tmp_path)
    before, listener = both_weights(folder), StopAfter()
    assert train(tmp_path, listener=listener) == folder
    assert (both_weights(folder), listener.batches) == (before, [])
    assert "is trained already" in listener.notes[0]


def test_other_settings_never_replace_a_training_unless_forced(tmp_path: Path) -> None:
    folder = train(tmp_path)
    before = both_weights(folder)
    for resume in (False, True):
        with pytest.raises(UserError, match=r"recipe.epochs is 4, not 2\); give --force"):
            train(tmp_path, recipe=recipe(epochs=2), resume=resume)
    assert both_weights(folder) == before
    train(tmp_path, recipe=recipe(epochs=2), force=True)
    assert load_card(folder).recipe.epochs == 2
    load_checkpoint(folder)


def test_an_unfinished_training_is_neither_lost_nor_mixed_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, listener=StopAfter(2))
    with pytest.raises(UserError, match=r"\(2 of 4 epochs\); give --resume"):
        train(tmp_path)
    with pytest.raises(UserError, match=r"recipe.batch_size is 4, not 2"):
        train(tmp_path, resume=True, recipe=recipe(batch_size=2))
    listener = StopAfter()
    train(tmp_path, force=True, listener=listener)
    assert listener.epochs == [1, 2, 3, 4]


@pytest.mark.parametrize("old", [4, 2])
@pytest.mark.parametrize("stop_after", [2, 4])
def test_a_forced_training_goes_on_whatever_was_finished_before(
    tmp_path: Path, old: int, stop_after: int
) -> None:
    """The checkpoint that it replaces stays whole until then, and is not taken for it."""
    before = both_weights(train(tmp_path / "a", recipe=recipe(epochs=old), seed=0))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", force=True, listener=StopAfter(stop_after))
    with pytest.raises(UserError, match=rf"\({stop_after} of 4 epochs\); give --resume"):
        train(tmp_path / "a")
    folder = tmp_path / "a" / "models" / "tiny@squares#0"
    load_checkpoint(folder)
    assert both_weights(folder) == before
    listener = StopAfter()
    assert train(tmp_path / "a", resume=True, listener=listener) == folder
    assert listener.epochs == list(range(stop_after + 1, 5))
    assert both_weights(folder) == both_weights(train(tmp_path / "b"))
    assert not (folder / UNFINISHED_FILE).exists()


def test_what_is_finished_is_found_beside_one_of_other_settings_that_is_to_replace_it(
    tmp_path: Path,
) -> None:
    train(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, recipe=recipe(epochs=6), force=True, listener=StopAfter(1))
    listener = StopAfter()
    train(tmp_path, listener=listener)
    assert "is trained already" in listener.notes[0]
    with pytest.raises(UserError, match=r"recipe.epochs is 4, not 5\); give --force"):
        train(tmp_path, recipe=recipe(epochs=5), resume=True)
    train(tmp_path, recipe=recipe(epochs=6), resume=True, listener=listener)
    assert listener.epochs == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("force", [False, True])
def test_a_state_that_a_kill_left_beside_its_card_is_of_what_is_done(
    tmp_path: Path, force: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, force=force)
    monkeypatch.setattr("segbench.training.train.remove", lambda path: None)
    folder = train(tmp_path, force=True) if force else train(tmp_path, seed=1)
    assert (folder / UNFINISHED_FILE).exists()
    listener = StopAfter()
    train(tmp_path, seed=load_card(folder).seed, resume=True, listener=listener)
    assert ("is trained already" in listener.notes[0], listener.batches) == (True, [])


def test_a_damaged_state_is_refused_in_a_sentence(tmp_path: Path) -> None:
    state = tmp_path / "models" / "tiny@squares#0" / UNFINISHED_FILE
    state.parent.mkdir(parents=True)
    state.write_bytes(b"not a state")
    with pytest.raises(UserError, match=r"cannot be read .* --force starts it over"):
        train(tmp_path, resume=True)


# ---------------------------------------------------------------------------------- what is wrong


def test_a_loss_that_is_no_number_stops_at_once_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"the loss is nan in epoch 1; try a learning_rate"):
        train(tmp_path, "diverging")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_too_little_memory_is_the_machine_s_fault(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"does not fit .* try a batch_size below 4"):
        train(tmp_path, "huge")


@pytest.mark.parametrize(
    "words",
    ["CUDA error: out of memory", "MPS backend out of memory", "CUBLAS_STATUS_ALLOC_FAILED"],
)
def test_too_little_memory_is_known_by_any_words(
    tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(self: Tiny, images: Tensor) -> Tensor:
        raise RuntimeError(words)

    monkeypatch.setattr(Tiny, "forward", lacking)
    with pytest.raises(MachineError, match="try a batch_size below 4"):
        train(tmp_path)


def test_a_network_that_ends_the_process_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"model leaving tried to end the process"):
        train(tmp_path, "leaving")


def test_batch_norm_of_one_value_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="met a batch of one case"):
        train(tmp_path, "pooled", recipe=recipe(batch_size=1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "tiny:spatial_dims=3"}, "spatial_dims=3, but the data has 2"),
        ({"model": "tiny:depth=3"}, "no parameter 'depth'"),
        ({"model": "tiny:num_classes=3"}, "no parameter 'num_classes'"),
        ({"seed": 2**63}, "seed 9223372036854775808 is out of range"),
        ({"seed": -(2**63) - 1}, "is out of range"),
        ({"split": "trian"}, "unknown split 'trian'; did you mean 'train'"),
        ({"model": "staged", "recipe": recipe(epochs=1)}, "needs at least as many epochs"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        train(tmp_path, **options)


def test_spatial_dims_that_agree_with_the_data_are_accepted(tmp_path: Path) -> None:
    said = train(tmp_path, "tiny:spatial_dims=2", recipe=recipe(epochs=1))
    unsaid = train(tmp_path, recipe=recipe(epochs=1))
    assert both_weights(said) == both_weights(unsaid)


def test_a_workspace_that_cannot_be_written_is_the_machine_s_fault(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")
    with pytest.raises(MachineError, match="cannot write"):
        train(tmp_path)


def test_progress_is_told_batch_by_batch(tmp_path: Path) -> None:
    listener = StopAfter()
    card = load_card(train(tmp_path, listener=listener))
    per_epoch = -(-len(card.train_cases) // 4)
    assert listener.batches == [(i + 1, per_epoch) for i in range(per_epoch)] * 4
    assert listener.epochs == [1, 2, 3, 4]


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    rates = [warm_cosine(step, 110, 10) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
