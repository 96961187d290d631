"""The best perturbation of a linear model is known: no wrong sign, step or projection passes."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import scores

from segbench.api import State
from segbench.plugins.attack import NamedAttack

EPS = 8 / 255
SIDE = 6


class OneLogit(nn.Module):
    """Every pixel's logit is ``s_p (v . x)``: a full linear map of rank one, v without zeros.

    With the network's own labels, which have the sign of ``s_p``, every pixel's loss falls with
    ``v . x`` and so does the sum: the optimum over any ball lies against v.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.v = 0.5 + torch.rand(SIDE * SIDE, generator=generator)
        self.v[::3] *= -1
        self.s = torch.where(torch.arange(SIDE * SIDE) % 4 < 2, 0.1, -0.1)
        self.offset = 10.0  # keeps every label, so that no attack may stop early

    def forward(self, images: Tensor) -> Tensor:
        z = images.flatten(1) @ self.v + self.offset
        return (z[:, None] * self.s).view(-1, 1, SIDE, SIDE)

    def best_linf(self, images: Tensor) -> Tensor:
        """The corner of the cube against v, cut off by the box."""
        return (images - EPS * self.v.sign().view(1, 1, SIDE, SIDE)).clamp(0, 1)

    def best_l1(self, images: Tensor, eps: float) -> Tensor:
        """Each pixel against v as far as the box lets it, the largest |v| first, eps in all."""
        order = self.v.abs().argsort(descending=True)
        flat, against = images.flatten(1), -self.v.sign()
        room = torch.where(against > 0, 1 - flat, flat)[:, order]
        before = room.cumsum(1) - room
        moved = torch.minimum((eps - before).clamp_min(0), room)
        return (flat + against * moved[:, order.argsort()]).view_as(images)

    def best_l2(self, images: Tensor, eps: float) -> Tensor:
        """Against v as far as the sphere: clipped coordinates leave their share to the others."""
        against = -self.v.expand(len(images), -1)
        flat = images.flatten(1)
        low, high = torch.zeros(len(images), 1), torch.full((len(images), 1), 1e3)
        for _ in range(200):
            middle = (low + high) / 2
            inside = ((flat + middle * against).clamp(0, 1) - flat).norm(dim=1, keepdim=True) < eps
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
        return (flat + low * against).clamp(0, 1).view_as(images)


class Gains(nn.Module):
    """A 1 x 1 convolution: class k's logit is 8 times channel k; three classes of three channels.

    Cross-entropy falls with the true class's own channel and rises with every other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, 3, 1, bias=False)
        self.map.weight.data = 8 * torch.eye(3)[:, :, None, None]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.map(images)
        return logits

    def best_linf(self, images: Tensor) -> Tensor:
        """Down in the true channel, up in the others."""
        away = 1 - 2 * F.one_hot(images.argmax(1), 3).movedim(-1, 1)
        return (images + EPS * away).clamp(0, 1)


def begun(attack: NamedAttack, start: str) -> NamedAttack | None:
    """The same attack from its own start or from zero; None where those are one."""
    if start == "own":
        return attack
    if not getattr(attack.attack, "random_start", False):
        return None
    return NamedAttack(attack.label, replace(attack.attack, random_start=False), attack.plugin)


def inner(channels: int) -> Tensor:
    """Images further than eps from the box and, for ``Gains``, from any change of label."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.rand(2, channels, SIDE, SIDE, generator=generator)
    return 0.2 + 0.2 * noise if channels == 1 else 0.2 + noise.argsort(1) * 0.25


def edged(channels: int) -> Tensor:
    """Every third pixel lies nearer to the box than eps, or on it."""
    images = inner(channels)
    images.view(2, -1)[:, ::6] = 0.3 * EPS
    images.view(2, -1)[:, 3::6] = 1.0
    return images


@pytest.mark.parametrize("make", [inner, edged])
@pytest.mark.parametrize("model", [OneLogit, Gains])
@pytest.mark.parametrize("start", ["zero", "own"])
def test_linf_attacks_reach_the_corner(
    linf_attack: NamedAttack, make: Any, model: Any, start: str, prepared: Any, run: Any
) -> None:
    attack = begun(linf_attack, start)
    if attack is None:
        return
    module = model()
    images = make(1 if model is OneLogit else 3)
    network = prepared(module, images, 2 if model is OneLogit else 3)
    labels = network.as_labels(network.exact_logits(images))
    found, best = run(network, attack, images, labels).images, module.best_linf(images)
    by_score = attack.plugin.name in ("sea", "apgd")
    by_score = by_score or getattr(attack.attack, "keep", "last") == "best"
    if by_score and model is Gains and make is edged:
        # Labels change there, and the lowest Jaccard, which these keep, is lower than in the
        # corner of the loss; masked losses leave pixels alone that are wrong already.
        assert (scores(network, found, labels) <= scores(network, best, labels) + 0.05).all()
        return
    torch.testing.assert_close(found, best, atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [inner, edged])
@pytest.mark.parametrize("start", ["zero", "own"])
@pytest.mark.parametrize("eps", ["8/255", "1/2"])
def test_l1_attacks_come_within_a_hundredth_of_the_best_loss(
    l1_attack: NamedAttack, make: Any, start: str, eps: str, prepared: Any, run: Any
) -> None:
    attack = begun(l1_attack, start)
    if attack is None:
        return
    module, images = OneLogit(), make(1)
    network = prepared(module, images)
    labels = network.as_labels(network.exact_logits(images))

    def loss(some: Tensor) -> Tensor:
        exact = network.exact_logits(some).double()
        return F.cross_entropy(exact, labels, reduction="none").flatten(1).sum(1)

    found = run(network, attack, images, labels, eps=eps).images
    clean, best = loss(images), loss(module.best_l1(images, float(Fraction(eps))))
    gap = (best - loss(found)) / (best - clean)
    assert gap.max() <= 0.01, gap
    assert gap.min() >= -1e-4, "better than the optimum: outside the ball"


@pytest.mark.parametrize("make", [inner, edged])
@pytest.mark.parametrize("start", ["zero", "own"])
@pytest.mark.parametrize("eps", ["8/255", "1/2"])
def test_l2_attacks_come_within_a_hundredth_of_the_best_loss(
    l2_attack: NamedAttack, make: Any, start: str, eps: str, prepared: Any, run: Any
) -> None:
    attack = begun(l2_attack, start)
    if attack is None:
        return
    module, images = OneLogit(), make(1)
    network = prepared(module, images)
    logits = network.exact_logits(images)
    labels = network.as_labels(logits)

    def loss(some: Tensor) -> Tensor:
        exact = network.exact_logits(some).double()
        return F.cross_entropy(exact, labels, reduction="none").flatten(1).sum(1)

    found = run(network, attack, images, labels, eps=eps).images
    clean, best = loss(images), loss(module.best_l2(images, float(Fraction(eps))))
    gap = (best - loss(found)) / (best - clean)
    assert gap.max() <= 0.01, gap
    assert gap.min() >= -1e-4, "better than the optimum: outside the ball"


def test_the_engine_and_not_the_attack_decides_where_an_iterate_may_be(
    linf_attack: NamedAttack, prepared: Any, run: Any
) -> None:
    """An attack that overshoots a hundredfold ends on the same corner."""

    class Wild(type(linf_attack.attack)):  # type: ignore[misc]
        def step(self, context: Any, state: State, feedback: Any) -> State:
            moved: State = super().step(context, state, feedback)
            return replace(moved, images=state.images + 100 * (moved.images - state.images))

    module, images = OneLogit(), inner(1)
    network = prepared(module, images)
    labels = network.as_labels(network.exact_logits(images))
    values = {f.name: getattr(linf_attack.attack, f.name) for f in fields(linf_attack.attack)}
    wild = NamedAttack(linf_attack.label, Wild(**values), linf_attack.plugin)
    found = run(network, wild, images, labels).images
    torch.testing.assert_close(found, module.best_linf(images), atol=1e-5, rtol=0)
