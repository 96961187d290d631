"""The universal direction: what it is, that it is the network's, and that it costs no case."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from brief import shorten_suites
from torch import Tensor, nn
from toys import Dense, dense_scene

from segbench.api import Budget, Goal
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.whole import CaseObjective
from segbench.plugins.attack import load_attack
from segbench_attacks.field import Field
from segbench_attacks.universal import universal_starts


class RankOne(nn.Module):
    """Every pixel's one logit is ``s_p (v . x)``, v without zeros."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.v = 0.5 + torch.rand(36, generator=generator)
        self.v[::3] *= -1
        self.s = torch.where(torch.arange(36) % 4 < 2, 0.1, -0.1)

    def forward(self, images: Tensor) -> Tensor:
        z = images.flatten(1) @ self.v - 3
        return (z[:, None] * self.s).view(-1, 1, 6, 6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_universal_direction_of_a_network_of_rank_one_is_its_singular_vector(
    norm: Any, prepared: Any
) -> None:
    net, images = RankOne(), 0.2 + 0.6 * torch.rand(3, 1, 6, 6)
    network = prepared(net, images)
    labels = network.as_labels(network.exact_logits(images))
    eps = Fraction(1, 50) if norm == "linf" else Fraction(1, 10)
    starts, led = universal_starts(field_of(network, images, labels, Budget(norm, eps)), 10)
    assert led.all()
    changes = (starts - images).flatten(1)
    unit = net.v.sign() if norm == "linf" else net.v / net.v.norm()
    for change in changes:  # the same for all, but for which of the two ends leaves less
        torch.testing.assert_close(change * (change @ net.v).sign(), float(eps) * unit)


class Particular(Dense):
    """A network whose answer to anything bright is none, or is very large."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        if self.kind == "raises" and images.amax() > 0.7:
            raise RuntimeError("no such image")
        logits = super().forward(images)
        if self.kind == "nan":
            return torch.where(images.amax() > 0.7, torch.nan, logits)
        if self.kind == "scaled":
            low, high = images.amin(), images.amax()
            return super().forward((images - low) / (high - low))
        if self.kind == "never":
            return torch.cat([logits[:, :2], torch.full_like(logits[:, :1], -1e20)], 1)
        return logits


@pytest.mark.parametrize("kind", ["nan", "raises", "scaled", "never"])
def test_a_network_that_noise_upsets_is_attacked_all_the_same(
    kind: str, prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_suites(monkeypatch)
    _, images, labels = dense_scene(9, 7)
    images = 0.4 + 0.2 * images
    network = prepared(Particular(kind), images, 3)
    budget = Budget("linf", Fraction("0.02"))
    _, led = universal_starts(field_of(network, images, labels, budget), 3)
    assert led.all() if kind in ("scaled", "never") else not led.any()
    outcome = run(network, load_attack("standard:cost=thorough"), images, labels, eps="0.02")
    assert outcome.images.isfinite().all()


class Window(nn.Module):
    """Sees gray levels up to a fifth, as a window of intensities does."""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * (images.clamp(0, 0.2) - 0.1)


def test_where_noise_has_no_gradient_there_is_no_direction_and_one_is_asked_for(
    prepared: Any,
) -> None:
    images = 0.2 * torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    network = prepared(Window(), images)
    labels = network.as_labels(network.exact_logits(images))
    field = field_of(network, images, labels, Budget("linf", Fraction("0.02")))
    starts, led = universal_starts(field, 10)
    assert not led.any()
    assert torch.equal(starts, images)
    assert isinstance(field.objective, CaseObjective)
    assert field.objective.spent()[1] == [1, 1]


def field_of(network: Network, images: Tensor, labels: Tensor, budget: Budget) -> Field:
    """Cases a, b, c in the ball."""
    noise = CaseNoise(0, tuple("abc"[: len(images)]), images.device)
    objective, norm = CaseObjective(network, noise, images), budget.kind
    assert norm in ("linf", "l2")
    return Field(objective, images, Goal(labels, labels), budget, noise, norm)  # type: ignore[arg-type]
