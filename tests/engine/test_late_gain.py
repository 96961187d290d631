"""What the last half of an attack's steps gained, by known curves and on networks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from segbench.api import Budget, Goal
from segbench.engine.late_gain import LateGain
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.precision import Precision
from segbench.plugins.attack import load_attack


def test_it_is_the_fall_of_the_lowest_score_from_the_first_half_to_the_end() -> None:
    late, cases = LateGain(3, 8, torch.device("cpu")), torch.arange(2)
    for step, score in enumerate([0.9, 0.5, 0.7, 0.6, 0.8, 0.3, 0.4, 0.45]):
        late.note(
            step,
            cases[: 1 if step > 3 else 2],
            torch.tensor([score, score])[: 1 if step > 3 else 2],
        )
    gain = late.gain()
    assert gain[0].item() == pytest.approx(0.2)  # from 0.5 to 0.3
    assert gain[1:].isnan().all()  # one left before, one was never there


class Bright(nn.Module):
    """Class 1 where a pixel is brighter than 0.5."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        z = 20 * (images - 0.5)
        return torch.cat([-z, z], 1)


class Frozen(Bright):
    """The same answers, and a gradient that is zero everywhere."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.detach() + 0 * images)


@pytest.mark.parametrize(("kind", "idle"), [(Bright, False), (Frozen, True)])
def test_a_gradient_that_leads_somewhere_gains_to_the_end(kind: Any, idle: bool) -> None:
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    truth = Bright()(images).argmax(1)
    network = Network("net", kind(), 2, torch.device("cpu"), Precision("fp32", "exact"))
    network.prepare(images[:2])
    attack: Any = load_attack("pgd:steps=24,rel_step=0.05,random_start=false").attack
    noise = CaseNoise(0, tuple("abcd"), images.device)
    budget = Budget("linf", Fraction(16, 255))
    outcome = attack_batch(network, attack, images, Goal(truth, truth), budget, noise)
    assert len(outcome.late_gain) == 4
    assert (max(outcome.late_gain) == 0) == idle
    square: Any = load_attack("square:steps=24").attack
    blind = attack_batch(network, square, images, Goal(truth, truth), budget, noise)
    assert all(gain != gain for gain in blind.late_gain)  # it has no gradient to lose
