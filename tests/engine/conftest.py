"""Tiny networks as the engine sees them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Attack, Budget, Goal
from segbench.engine import alone
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.outcome import Outcome


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """Run an attack on a batch of cases named a, b, c ..., away from the truth."""

    def attacked(
        network: Network,
        attack: Attack,
        images: Tensor,
        truth: Tensor,
        eps: Fraction = Fraction(8, 255),
        names: str = "abcdefgh",
    ) -> Outcome:
        budget = Budget(attack.budget_kind, eps)
        noise = CaseNoise(0, tuple(names[: len(images)]), images.device)
        return attack_batch(network, attack, images, Goal(truth, truth), budget, noise)

    return attacked


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of the tests are of a package whose code is known."""
    here = ("toys", "tests", "test_alone", "test_batch_sizes")
    monkeypatch.setattr(alone, "KNOWN", (*alone.KNOWN, *here))


@pytest.fixture
def sharing(prepared: Callable[..., Network]) -> Callable[..., Network]:
    """A module made ready whose cases share batches, as on an accelerator."""

    def make(module: nn.Module, images: Tensor) -> Network:
        network = prepared(module, images)
        network.alone = None
        return network

    return make


@pytest.fixture
def textured() -> Callable[..., tuple[Tensor, Tensor]]:
    """Images (B, 1, *spatial) with a bright blob each, and its mask, by seed."""

    def make(cases: int = 3, side: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        centre = side * (0.3 + 0.4 * torch.rand(cases, 2, 1, 1, generator=generator))
        axis = torch.arange(side, dtype=torch.float32)
        down, right = axis[:, None] - centre[:, 0], axis[None, :] - centre[:, 1]
        truth = (down**2 + right**2 < (side / 4) ** 2).long()
        noise = torch.rand(cases, 1, side, side, generator=generator)
        return 0.2 + 0.3 * truth[:, None] + 0.3 * noise, truth

    return make
