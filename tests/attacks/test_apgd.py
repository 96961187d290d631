"""APGD against torchattacks', iterate by iterate, and what the engine keeps of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Context, Feedback, Goal, State
from segbench.metrics import regions
from segbench.plugins.attack import load_attack
from segbench_attacks.apgd import APGD
from segbench_attacks.apgd_l1 import begin_sparse
from segbench_attacks.apgd_search import begin
from segbench_attacks.losses import tracked_loss

EPS = 0.1
STEPS = 40


class Verdict(nn.Module):
    """A curved classifier of whole images: (B, 1, 4, 4) to two logits."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(16, 12), nn.Linear(12, 2)
        generator = torch.Generator().manual_seed(12)
        for parameter in self.parameters():
            parameter.data = 2 * torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.sin(self.enter(images.flatten(1))))
        return logits


class OnePixel(nn.Module):
    """The classifier as a segmentation network whose every pixel has the same answer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.net(images)
        return answer[:, :, None, None].expand(-1, -1, *images.shape[2:])


@dataclass(frozen=True)
class Watched(APGD):
    """APGD from a given start; what it asks is noted."""

    start: Any = field(default=None, repr=False)
    asked: Any = field(default=None, repr=False)  # or each step would write it out

    def init(self, context: Context) -> State:
        make = begin_sparse if self.norm == "l1" else begin
        return make(self.start, context.budget, self.steps)

    def plan(self, budget: Any) -> Any:
        return replace(super().plan(budget), stop_early=False)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        self.asked.append((state.images.clone(), feedback.loss.clone()))
        return super().step(context, state, feedback)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_torchattacks_asks_for_the_same_images(
    norm: str, prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until, at the very end, steps are so short that rounding decides what is a rise."""
    monkeypatch.setattr("segbench_attacks.apgd_search.ROUNDING", 0.0)  # which torchattacks ignores
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    net = Verdict()
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(13))
    labels = net(images).argmax(1)
    theirs: list[Tensor] = []
    hook = net.register_forward_pre_hook(
        lambda _, inputs: theirs.append(inputs[0].detach().clone())
    )
    eps = EPS if norm == "linf" else 4 * EPS
    attack = torchattacks.APGD(net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=STEPS)
    torch.manual_seed(0)
    attack.attack_single_run(images, labels)
    hook.remove()
    theirs = theirs[:STEPS]
    asked: list[tuple[Tensor, Tensor]] = []
    ours = load_attack(f"apgd:norm={norm}")
    watched = Watched(STEPS, norm=norm, start=theirs[0], asked=asked)  # type: ignore[arg-type]
    dense = labels[:, None, None].expand(-1, 4, 4)
    network = prepared(OnePixel(net), images)
    run(network, replace(ours, attack=watched), images, dense, eps=str(eps))
    assert len(asked) == STEPS
    agree = torch.stack(
        [(a[0] - b).abs().flatten(1).amax(1) < 1e-4 for a, b in zip(asked, theirs, strict=True)]
    )
    assert agree[: STEPS - 4].all(), agree.int().argmin(0)


def of_adv_lib(name: str) -> Any:
    """One of its attacks' modules; their package wants torchvision."""
    pytest.importorskip("adv_lib", reason="adv-lib is not installed")
    file = distribution("adv-lib").locate_file(f"adv_lib/attacks/{name}.py")
    spec = spec_from_file_location(name, str(file))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_l1_variant_asks_for_the_same_images_as_adv_lib(
    prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one start, in [0.5, 1), where no rounding decides in how many values images differ."""
    monkeypatch.setattr("segbench_attacks.apgd_l1.ROUND", torch.ceil)
    monkeypatch.setattr("segbench_attacks.apgd_l1.DUST", 0.0)
    auto_pgd = of_adv_lib("auto_pgd")
    net = Verdict()
    generator = torch.Generator().manual_seed(13)
    images = 0.62 + 0.26 * torch.rand(6, 1, 4, 4, generator=generator)
    labels = net(images).argmax(1)
    theirs: list[Tensor] = []
    hook = net.register_forward_pre_hook(lambda _, x: theirs.append(x[0].detach().clone()))
    eps = torch.full((6,), EPS)
    torch.manual_seed(2)
    auto_pgd._apgd(net, images, labels, eps, norm=1, loss_function="ce", n_iter=STEPS)
    hook.remove()
    theirs = theirs[:STEPS]
    asked: list[tuple[Tensor, Tensor]] = []
    watched = Watched(STEPS, norm="l1", start=theirs[0], asked=asked)
    dense = labels[:, None, None].expand(-1, 4, 4)
    network = prepared(OnePixel(net), images)
    run(network, replace(load_attack("apgd:norm=l1"), attack=watched), images, dense, eps=str(EPS))
    agree = torch.stack(
        [(a[0] - b).abs().flatten(1).amax(1) < 1e-4 for a, b in zip(asked, theirs, strict=True)]
    )
    assert agree.all(), agree.int().argmin(0)


class Wavy(nn.Module):
    """A segmentation network with a rough loss: long steps overshoot."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 2, 1)
        generator = torch.Generator().manual_seed(14)
        for parameter in self.parameters():
            parameter.data = 2 * torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.sin(4 * self.enter(images)))
        return logits


@pytest.mark.parametrize("loss", ["ce", "masked-ce"])
def test_the_worst_iterate_is_kept(loss: str, prepared: Any, run: Any) -> None:
    images = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(15))
    network = prepared(Wavy(), images)
    labels = network.as_labels(network.exact_logits(images))
    asked: list[tuple[Tensor, Tensor]] = []
    watched = Watched(30, loss_=loss, start=images, asked=asked)  # type: ignore[arg-type]
    found = run(network, replace(load_attack("apgd"), attack=watched), images, labels, eps="0.05")

    def scores(some: Tensor) -> Tensor:
        predicted = network.as_labels(network.exact_logits(some))
        return regions.case_score(network.score(predicted, labels, None))

    along = torch.stack([scores(some) for some, _ in asked])
    assert (scores(found.images) <= along.amin(0)).all()
    assert found.backwards == [30] * 4
    assert found.forwards == [33] * 4  # the clean, the kept and the last are scored in fp32


@pytest.mark.parametrize("loss", ["masked-ce", "balanced-ce"])
def test_a_masked_loss_never_rewinds_to_a_less_fooled_image(loss: str) -> None:
    """Two pixels correct, then one of them wrong by far: masked losses fall, the tracked rises."""
    labels = torch.zeros(1, 1, 2).long()
    goal = Goal(labels, labels)
    before = torch.tensor([[[[0.1, 0.1]], [[0.0, 0.0]]]])
    after = torch.tensor([[[[0.1, 0.0]], [[0.0, 3.0]]]])
    attack = APGD(loss_=loss)  # type: ignore[arg-type]
    assert attack.loss(after, goal, 0) < attack.loss(before, goal, 0) or loss == "balanced-ce"
    assert tracked_loss(attack.loss_, after, goal) > tracked_loss(attack.loss_, before, goal)
