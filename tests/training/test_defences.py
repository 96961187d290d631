"""Defences: what a batch becomes, that they help, and that a killed training resumes exactly."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from segbench.api import Case, Entry, Goal
from segbench.engine.precision import Precision
from segbench.errors import MachineError, UserError
from segbench.plugins import registry
from segbench.store.workspace import Workspace
from segbench.training.card import BEST_FILE, LAST_FILE, load_card
from segbench.training.checkpoint import load_checkpoint
from segbench.training.defence import checked, load_defence
from segbench.training.listener import Silence
from segbench.training.recipes import Recipe, load_recipe
from segbench.training.train import train_model
from segbench.training.trainee import TrainedNetwork
from segbench_attacks.defences import TRADES, Free, Gaussian, PGDTraining, SegPGDTraining

SPECS = ["free:replays=2", "gaussian", "pgd-at:steps=2", "segpgd-at:steps=2", "trades:steps=2"]
EPS = 0.1


@dataclass(frozen=True)
class Stripes:
    """Two classes by a robust cue, brightness within slow noise, and a fragile, a faint checker."""

    class_names: tuple[str, ...] = ("background", "bright")
    in_channels: int = 1
    spatial_dims: int = 2
    resize_rule: str = "none"
    splits: tuple[str, ...] = ("train", "test")

    def entries(self, split: str) -> list[Entry]:
        first = 0 if split == "train" else 100
        return [Entry(f"{n}", f"{n}", (1, 16, 16)) for n in range(first, first + 16)]

    def load(self, case_id: str) -> Case:
        random = np.random.default_rng(int(case_id))
        labels = np.zeros((16, 16), np.int64)
        labels[:, random.integers(4, 12) :] = 1
        noise = ndimage.gaussian_filter(random.standard_normal(labels.shape), 1)
        broad = 0.25 + 0.5 * labels + 0.1 * noise / noise.std()
        checker = 0.1 * (np.indices(labels.shape).sum(0) % 2 * 2 - 1) * (2 * labels - 1)
        image = (broad + checker).clip(0, 1)[None].astype(np.float32)
        return Case(case_id, case_id, image, labels, self.class_names)

    def fingerprint(self) -> str:
        return "stripes"


class Tiny(nn.Module):
    """Two layers, with a norm and dropout between them."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 5, padding=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(8, classes, 5, padding=2),
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images)
        return out


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    load: Callable[..., Any] = registry.load

    def other(kind: Any, name: str) -> Any:
        def build(*, in_channels: int, num_classes: int, spatial_dims: int = 2) -> nn.Module:
            return Tiny(in_channels, num_classes)

        if kind != "models":
            return load(kind, name)
        return registry.Plugin("models", name, build, "segbench", "0")

    monkeypatch.setattr(registry, "load", other)


def recipe(**changes: Any) -> Recipe:
    still = dict.fromkeys(
        ("rotate", "scale", "translate", "brightness", "contrast", "gamma", "flip"), 0
    )
    short = {
        "augmentation": still,
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 0.02,
        "validation_fraction": 0.25,
    }
    return load_recipe("quick", "stripes", {**short, "warmup_epochs": 0, **changes})


def train(root: Path, defence: str = "", **options: Any) -> Path:
    asked = {"recipe": recipe(), "seed": 0, "workspace": Workspace(root), "defence": defence}
    return train_model("tiny", Stripes(), "stripes", **{**asked, **options})


def batch() -> tuple[Tensor, Tensor]:
    cases = [Stripes().load(str(n)) for n in range(4)]
    images = torch.stack([torch.from_numpy(case.image) for case in cases])
    return images, torch.stack([torch.from_numpy(case.labels) for case in cases])


class Recorder:
    """A trainee whose loss is of one pixel weight, and that keeps what it was asked."""

    def __init__(self) -> None:
        self.learnt: list[Tensor] = []
        self.weight = torch.tensor(2.0, requires_grad=True)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        self.learnt.append(images.detach().clone())
        return (self.weight * images).sum()

    def logits(self, images: Tensor) -> Tensor:
        return torch.cat([self.weight * images, -self.weight * images], 1)

    def goal(self, labels: Tensor) -> Goal:
        return Goal(labels, labels, ignore_index=-100)

    def ascent(self, images: Tensor, loss: Any, goal: Goal) -> Tensor:
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(self.logits(leaf), goal).sum(), leaf)
        return gradient


def run(defence: Any, trainee: Any, images: Tensor, labels: Tensor, seed: int = 0) -> list[Tensor]:
    losses = []
    for loss in defence.losses(trainee, images, labels, torch.Generator().manual_seed(seed)):
        loss.backward()
        losses.append(loss.detach())
    return losses


@pytest.mark.parametrize("kind", [PGDTraining, SegPGDTraining, TRADES, Free])
def test_what_is_learnt_from_lies_in_ball_and_box(kind: Any) -> None:
    images, labels = batch()
    trainee = Recorder()
    run(kind(eps=EPS), trainee, images, labels)
    for learnt in trainee.learnt:
        assert (learnt - images).abs().max() <= EPS + 1e-6
        assert learnt.amin() >= 0
        assert learnt.amax() <= 1
    assert len(trainee.learnt) == (4 if kind is Free else 1)


def test_an_attack_reaches_the_edge_of_the_ball_where_the_loss_is_linear() -> None:
    images, labels = batch()
    images, trainee = images.clamp(0.2, 0.8), Recorder()
    run(PGDTraining(eps=EPS, steps=3), trainee, images, labels)
    worst = torch.where(labels[:, None] == 0, images - EPS, images + EPS)
    torch.testing.assert_close(trainee.learnt[0], worst)


def test_a_share_of_the_batch_stays_clean() -> None:
    images, labels = batch()
    for kind in (PGDTraining, Gaussian):
        trainee = Recorder()
        run(kind(clean_share=0.5), trainee, images, labels)
        assert torch.equal(trainee.learnt[0][:2], images[:2])
        assert (trainee.learnt[0][2:] != images[2:]).any()


def test_a_share_holds_in_the_mean_for_batches_of_one() -> None:
    image, label = (values[:1] for values in batch())
    trainee = Recorder()
    for seed in range(60):
        run(Gaussian(clean_share=0.5), trainee, image, label, seed)
    kept = [torch.equal(learnt, image) for learnt in trainee.learnt]
    assert 20 < sum(kept) < 40


def test_noise_has_its_deviation_and_another_seed_is_other_noise() -> None:
    images, labels = batch()
    trainee = Recorder()
    for seed in (0, 0, 1):
        run(Gaussian(sigma=0.25), trainee, images, labels, seed)
    first, again, other = (learnt - images for learnt in trainee.learnt)
    assert first.std() == pytest.approx(0.25, rel=0.05)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_trades_weighs_the_gap_and_without_weight_is_the_clean_loss() -> None:
    images, labels = batch()
    clean, low, high = (
        run(TRADES(eps=EPS, beta=beta), Recorder(), images, labels)[0] for beta in (0, 1, 2)
    )
    assert clean == Recorder().loss(images, labels)
    assert low > clean
    torch.testing.assert_close(high - clean, 2 * (low - clean), rtol=1e-3, atol=1e-3)


def test_a_replay_climbs_by_the_gradient_that_the_weights_learnt_from() -> None:
    images, labels = batch()
    images, trainee = images.clamp(0.3, 0.7), Recorder()
    run(Free(eps=EPS, replays=2), trainee, images, labels)
    start = trainee.learnt[0] - images  # the loss grows with every pixel
    torch.testing.assert_close(trainee.learnt[1], images + (start + EPS).clamp(-EPS, EPS))


def test_the_attack_within_moves_no_statistic_and_leaves_the_training_mode() -> None:
    """Batch norm: the attack sees the network as it is attacked later, in evaluation mode."""
    torch.manual_seed(0)
    module = Tiny(1, 2).train()
    trainee = TrainedNetwork(module, recipe(), Precision("fp32", "of the test"))
    images, labels = batch()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    def pixels(logits: Tensor, goal: Goal) -> Tensor:
        return nn.functional.cross_entropy(logits, goal.labels, reduction="none").flatten(1).sum(1)

    together = trainee.ascent(images, pixels, trainee.goal(labels))
    alone = trainee.ascent(images[:1], pixels, trainee.goal(labels[:1]))
    torch.testing.assert_close(together[:1], alone)
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    trainee.loss(images, labels)
    assert not torch.equal(
        module.state_dict()["layers.1.running_mean"], before["layers.1.running_mean"]
    )


@pytest.mark.parametrize("spec", SPECS)
def test_a_killed_training_ends_to_the_bit_as_one_that_was_not(spec: str, tmp_path: Path) -> None:
    class Stop(Silence):
        def epoch(self, epoch: int, *_: Any) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    whole = train(tmp_path / "whole", spec)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", spec, listener=Stop())
    parts = train(tmp_path / "parts", spec, resume=True)
    for name in (BEST_FILE, LAST_FILE):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert load_card(parts).gradients == load_card(whole).gradients


@pytest.mark.parametrize(
    ("spec", "each"),
    [
        ("", 1),
        ("gaussian", 1),
        ("pgd-at:steps=3", 4),
        ("free:replays=2", 2),
        ("trades:steps=2", 6),  # the clean answer, two steps, and three that the weights learn of
    ],
)
def test_the_card_says_what_a_training_cost_in_gradients(
    spec: str, each: int, tmp_path: Path
) -> None:
    card = load_card(train(tmp_path, spec))
    assert card.gradients == each * len(card.history) * len(card.train_cases)
    assert card.cost.endswith(f"{card.gradients} gradients ({each} a case and epoch)")
    assert card.cost.startswith(f"{card.defence or 'no defence'}, ")


def test_a_defence_stands_in_name_and_card_and_another_is_another_training(tmp_path: Path) -> None:
    folders = [train(tmp_path, spec) for spec in ("", "pgd-at:steps=1,eps=8/255", "gaussian")]
    assert [folder.name for folder in folders] == [
        "tiny@stripes#0", "tiny_with_pgd-at-eps=8+255,steps=1@stripes#0",
        "tiny_with_gaussian@stripes#0",
    ]  # fmt: skip
    card = load_card(folders[1])
    assert card.defence == "pgd-at:eps=8/255,steps=1"
    assert card.defence_parameters == {"eps": 8 / 255, "steps": 1, "clean_share": 0.0}
    weights = [(folder / LAST_FILE).read_bytes() for folder in folders]
    assert all(a != b for a, b in itertools.combinations(weights, 2))


def test_a_training_begins_with_the_weights_it_is_told_to(tmp_path: Path) -> None:
    first = train(tmp_path / "first")
    still = recipe(epochs=1, learning_rate=1e-12)
    after = train(tmp_path / "after", recipe=still, start_from=first, seed=5)
    own = load_checkpoint(first)[0].layers[0].weight
    torch.testing.assert_close(load_checkpoint(after)[0].layers[0].weight, own, atol=1e-9, rtol=0)
    assert load_card(after).start_from == load_card(first).weights_sha256
    (learnt,) = load_card(after).inherited
    card = load_card(first)
    assert set(learnt.cases) == {*card.train_cases, *card.validation_cases}
    assert set(learnt.contents) == set(card.contents.values())
    with pytest.raises(UserError, match="begins from another checkpoint; give --start-from"):
        train(tmp_path / "no", "pir-at")
    assert load_card(train(tmp_path / "pir", "pir-at:steps=1", start_from=first)).start_from


def test_what_a_training_cost_has_what_it_began_with_however_often_that_began_anew(
    tmp_path: Path,
) -> None:
    first = train(tmp_path / "first")
    second = train(tmp_path / "second", "pir-at:steps=1", start_from=first)
    third = train(tmp_path / "third", "gaussian", start_from=second)
    cards = [load_card(folder) for folder in (first, second, third)]
    own = [card.gradients for card in cards]
    assert [card.start_gradients for card in cards] == [None, own[0], own[0] + own[1]]
    assert "begun" not in cards[0].cost
    for before, card in itertools.pairwise(cards):
        start = f"{before.weights_sha256[:12]}… ({before.all_gradients} gradients)"
        assert card.cost.endswith(f" a case and epoch), begun from the weights {start}")
    older = cards[2].model_copy(update={"start_gradients": None})
    assert older.cost.endswith("… (gradients unknown)")
    assert older.all_gradients is None


@pytest.mark.parametrize(("other", "said"), [(False, 0), (True, 1)])
def test_a_start_of_other_data_is_said(other: bool, said: int, tmp_path: Path) -> None:
    class Others(Stripes):
        def fingerprint(self) -> str:
            return "others"

    class Notes(Silence):
        def note(self, message: str) -> None:
            notes.append(message)

    notes: list[str] = []
    data = Others() if other else Stripes()
    start = train_model(
        "tiny", data, "others", recipe=recipe(epochs=1), seed=0, workspace=Workspace(tmp_path)
    )
    train(tmp_path, start_from=start, listener=Notes())
    assert len(notes) == said
    assert all("weights that were trained on others, other data than its own" in n for n in notes)


@pytest.mark.parametrize(
    ("spec", "passes"),
    [
        ("gaussian:clean_share=0.5", 1),
        ("pgd-at:steps=3", 1),
        ("pgd-at:steps=3,clean_share=0.5", 1),
        ("segpgd-at:steps=3", 1),
        ("trades:steps=3", 3),
        ("free:replays=2", 2),
    ],
)
def test_a_batch_norm_s_statistics_move_by_what_the_weights_learn_from_alone(
    spec: str, passes: int, tmp_path: Path
) -> None:
    """However many steps an attack takes; as docs/defences.md has it of each defence."""
    network, card = load_checkpoint(train(tmp_path, spec))
    batches = len(card.history) * len(card.train_cases) // 4
    assert network.layers[1].num_batches_tracked == passes * batches


@pytest.mark.parametrize("given", [[], [torch.ones(2, requires_grad=True)], [torch.ones(())]])
def test_a_defence_without_a_loss_is_named(given: list[Tensor]) -> None:
    with pytest.raises(MachineError, match="defence odd gave no loss"):
        list(checked(iter(given), "odd"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pgd-at:eps=0", "eps=0 must lie above 0"),
        ("pgd-at:steps=0", "steps=0 must be at least 1"),
        ("gaussian:sigma=2", "sigma=2 must lie above 0"),
        ("gaussian:clean_share=1", "clean_share=1 must lie from 0"),
        ("trades:beta=-1", "beta=-1 must not be negative"),
        ("pgd-at:epsilon=1", "no parameter 'epsilon'"),
        ("pgd", "did you mean 'pgd-at'"),
    ],
)
def test_a_wrong_defence_is_a_sentence(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_defence(spec)


@pytest.mark.parametrize(
    ("spec", "epochs"),
    [
        ("pgd-at:eps=0.15,steps=4", 30),
        pytest.param("trades:eps=0.15,steps=4,beta=3", 30, marks=pytest.mark.slow),
    ],
)
def test_training_on_attacked_images_is_worth_something_under_the_standard_suite(
    spec: str, epochs: int, tmp_path: Path, prepared: Any
) -> None:
    from segbench.api import Budget
    from segbench.engine.loop import attack_batch
    from segbench.engine.noise import CaseNoise
    from segbench.engine.objective import NetworkObjective
    from segbench.plugins.attack import load_attack

    cases = [Stripes().load(str(n)) for n in range(100, 104)]
    images = torch.stack([torch.from_numpy(case.image) for case in cases])
    truth = torch.stack([torch.from_numpy(case.labels) for case in cases])
    left = []
    for defence in ("", spec):
        folder = train(tmp_path, defence, recipe=recipe(epochs=epochs))
        network = prepared(load_checkpoint(folder)[0], images)
        goal, noise = Goal(truth, truth), CaseNoise(0, tuple("abcd"), torch.device("cpu"))
        attack = load_attack("standard:cost=quick").attack
        found = attack_batch(network, attack, images, goal, Budget("linf", Fraction(3, 20)), noise)
        left.append(float(NetworkObjective(network).remaining(found.images, goal).mean()))
    assert left[1] > left[0] + 0.05, left
