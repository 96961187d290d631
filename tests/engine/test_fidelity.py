"""bf16 serves for gradients where it has fp32's; where it has not, fp32 does."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import Curved

from segbench.api import Budget, Goal, Loss
from segbench.engine.fidelity import Fidelity, compare, loss_key
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.engine.precision import Precision
from segbench.engine.prepare import GradientCopy
from segbench.plugins.attack import load_attack

BF16, FP32 = Precision("bf16", "asked for"), Precision("fp32", "asked for")
IMAGES = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))


class Saturated(nn.Module):
    """A tanh at its end, near one: bf16 rounds it to one, and its gradient there is exactly 0."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.body.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(5 + 0.3 * self.body(images))


def prepared(module: nn.Module, precision: Precision) -> tuple[Network, Tensor]:
    network = Network("net", module, 2, torch.device("cpu"), precision)
    network.prepare(IMAGES[:2])
    return network, network.as_labels(network.exact_logits(IMAGES))


def attacked(network: Network, truth: Tensor, spec: str) -> Tensor:
    attack, budget = load_attack(spec).attack, Budget("linf", Fraction(8, 255))
    noise = CaseNoise(0, ("a", "b", "c"), torch.device("cpu"))
    return attack_batch(network, attack, IMAGES, Goal(truth, truth), budget, noise).images  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ["pgd:steps=4", "segpgd:steps=4", "standard"])
def test_a_network_whose_bf16_gradient_vanishes_gets_its_fp32_scores(spec: str) -> None:
    (low, truth), (exact, _) = prepared(Saturated(), BF16), prepared(Saturated(), FP32)
    assert low.copies.fast.name == "bf16"
    found = attacked(low, truth, spec)
    assert set(low.copies.used) == {"fp32"}
    assert torch.equal(found, attacked(exact, truth, spec))


def test_an_honest_network_keeps_its_bf16_and_says_how_good_it_is() -> None:
    network, truth = prepared(Curved(), BF16)
    attacked(network, truth, "pgd:steps=3")
    ((name, check),) = network.copies.used.items()
    assert name == "bf16"
    assert check == "cosine 1.000, signs 99.6%, lost 0.0%"
    assert prepared(Curved(), FP32)[0].copies.fast.exact is None


def test_the_comparison_is_made_once_for_each_loss() -> None:
    network, truth = prepared(Saturated(), BF16)
    objective, goal = NetworkObjective(network), Goal(truth, truth)

    def first(logits: Tensor, goal: Goal) -> Tensor:
        return logits[:, 0].flatten(1).sum(1)

    def cross(logits: Tensor, goal: Goal) -> Tensor:
        return F.cross_entropy(logits, goal.labels, reduction="none").flatten(1).sum(1)

    asked = []
    copies, original = network.copies, network.copies.compare

    def noted(copy: GradientCopy, exact: GradientCopy, loss: Loss, goal: Goal) -> Fidelity:
        asked.append(loss)
        return original(copy, exact, loss, goal)

    copies.compare = noted
    for loss in (first, cross, first):
        objective.value_and_grad(IMAGES, loss, goal)
    assert asked == [first, cross]


def test_gradients_are_compared_pixel_by_pixel() -> None:
    reference = torch.tensor([1.0, -2.0, 0.0, 3.0])
    same = compare(2 * reference, reference)
    assert (same.lost, same.signs, round(same.cosine, 6), same.faithful) == (0, 1, 1, True)
    lost = compare(torch.tensor([1.0, 0.0, 5.0, 0.0]), reference)
    assert (lost.lost, lost.signs, lost.faithful) == (
        pytest.approx(2 / 3), pytest.approx(1 / 3), False,
    )  # fmt: skip
    assert not compare(torch.zeros(4), reference).faithful
    assert compare(reference, torch.zeros(4)).faithful  # nothing to stand for
    assert str(same) == "cosine 1.000, signs 100.0%, lost 0.0%"


def test_a_loss_is_known_by_what_it_was_told() -> None:
    def made(name: str) -> Any:
        return lambda logits, goal: name

    a, b = load_attack("pgd:steps=4").attack, load_attack("pgd:steps=4,loss=dice").attack
    assert loss_key(a.loss) != loss_key(b.loss)  # type: ignore[union-attr]
    assert loss_key(made("a")) != loss_key(made("b"))
    assert loss_key(made("a")) == loss_key(made("a"))
