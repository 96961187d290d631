"""A network that must know more of a case than its image: its copies know it too."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.api import Budget, Case, Goal
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.engine.precision import Precision
from segbench.plugins.attack import load_attack

SIDE = 8
PRECISIONS = ["fp32", "bf16"]


class Plain(nn.Module):
    """Whether what is bright is the organ, or what is dark, hangs on the case: on its name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 3, padding=1)
        self.sign = 0.0

    def meet(self, case: Case) -> None:
        self.sign = 1.0 if case.case_id == "bright" else -1.0

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.last(self.within(self.first(self.sign * images)))
        return answer

    def within(self, features: Tensor) -> Tensor:
        return features.relu()


class Normed(Plain):
    """One whose batch norm could be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def within(self, features: Tensor) -> Tensor:
        normed: Tensor = self.norm(features)
        return normed.relu()


class Unpooled(Plain):
    """One that is asked through a copy that knows of places."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def within(self, features: Tensor) -> Tensor:
        values, places = self.pool(features)
        unpooled: Tensor = self.unpool(values, places)
        return unpooled


class Rounding(nn.Module):
    """A front that declares the identity for the backward pass."""

    def forward(self, images: Tensor) -> Tensor:
        return (images * 64).round() / 64

    def stand_in(self, inputs: Tensor) -> Tensor:
        return inputs


class Fronted(Plain):
    """One that is asked through a copy with a stand-in."""

    def __init__(self) -> None:
        super().__init__()
        self.front = Rounding()

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.front(images))


class Whole(Plain):
    """One that is its own stand-in as a whole."""

    def stand_in(self, inputs: Tensor) -> Tensor:
        return self(inputs)


KINDS = [Plain, Normed, Unpooled, Fronted, Whole]


def case(name: str) -> Case:
    image = np.random.default_rng(len(name)).uniform(0, 1, (1, SIDE, SIDE)).astype(np.float32)
    labels = (image[0] > 0.5).astype(np.int64)
    return Case(name, name, image, labels, ("background", "organ"))


def image_of(met: Case) -> Tensor:
    return torch.from_numpy(met.image)[None]


def ready(kind: type[Plain], precision: str) -> Network:
    """Prepared on the bright case."""
    torch.manual_seed(1)
    network = Network("net", kind(), 2, torch.device("cpu"), Precision(precision, "asked for"))
    network.meet([case("bright")])
    network.prepare(image_of(case("bright")))
    return network


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_answer_about_the_case_that_was_met(kind: type[Plain], precision: str) -> None:
    network = ready(kind, precision)
    copies = network.copies
    assert copies.fast.name.startswith(precision)
    answers = {}
    for name in ("bright", "dark", "bright"):
        met = case(name)
        network.meet([met])
        image = image_of(case("bright"))  # of either case, so that only what was met differs
        expected = answers[name] = network.exact_logits(image)
        for copy in (copies.fast, copies.unrecorded, copies.reference, copies.watchable()):
            with torch.no_grad(), copy.autocast():
                answer = network.canonical(copy.module(image), image)
            torch.testing.assert_close(answer.float(), expected, atol=0.02, rtol=0.02)
    assert (answers["bright"] - answers["dark"]).abs().max() > 0.2


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_finds_the_same_image_whichever_case_came_first(
    kind: type[Plain], precision: str
) -> None:
    def attacked(network: Network, met: Case) -> Tensor:
        network.meet([met])
        truth = torch.from_numpy(met.labels)[None]
        noise = CaseNoise(0, (met.case_id,), torch.device("cpu"))
        attack, budget = load_attack("pgd:steps=4").attack, Budget("linf", Fraction(8, 255))
        goal = Goal(truth, truth)
        return attack_batch(network, attack, image_of(met), goal, budget, noise).images  # type: ignore[arg-type]

    after, first = ready(kind, precision), ready(kind, precision)
    first.meet([case("dark")])
    first.prepare(image_of(case("dark")))
    assert torch.equal(attacked(after, case("dark")), attacked(first, case("dark")))


def test_the_gradient_is_that_of_the_loss_of_the_case_that_was_met() -> None:
    network = ready(Fronted, "fp32")
    network.meet([case("dark")])
    image, truth = image_of(case("dark")), torch.from_numpy(case("dark").labels)[None]
    leaf = image.clone().requires_grad_()
    bare = network.module
    assert isinstance(bare, Plain)
    with torch.enable_grad():
        logits = Plain.forward(bare, Rounding()(leaf) + leaf - leaf.detach())  # straight through
        F.binary_cross_entropy_with_logits(logits[:, 0], truth.float()).backward()

    def loss(logits: Tensor, goal: Goal) -> Tensor:
        return F.cross_entropy(logits, goal.labels)[None]

    found = NetworkObjective(network).value_and_grad(image, loss, Goal(truth, truth)).gradient
    assert leaf.grad is not None
    torch.testing.assert_close(found, leaf.grad, atol=1e-6, rtol=1e-4)
