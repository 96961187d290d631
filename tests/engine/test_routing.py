"""What an image decides without a gradient is measured by what the answer no longer changes by."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from routes import HIDDEN, HONEST, Smooth, Voting
from torch import Tensor, nn

from segbench.engine.network import Network
from segbench.engine.routing import UNSEEN

SIDE = 32


@pytest.fixture
def met(prepared: Any) -> Any:
    """A network that has met an image."""

    def meet(module: nn.Module) -> Network:
        images = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
        network: Network = prepared(module, images, 2)
        return network

    return meet


@pytest.mark.parametrize("kind", HONEST)
def test_what_changes_next_to_nothing_is_not_marked(kind: Any, met: Any) -> None:
    network = met(kind())
    assert network.unseen is not None
    assert network.unseen <= UNSEEN
    assert network.marks == ()


@pytest.mark.parametrize("kind", HIDDEN)
def test_what_no_gradient_sees_is_measured_and_marked(kind: Any, met: Any) -> None:
    network = met(kind())
    assert network.unseen > 0.5
    assert network.marks == ("hidden-routes",)


def test_half_of_it_is_half_of_the_change(met: Any) -> None:
    """Linear: the copy without a gradient is one of two equal parts."""

    class Half(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([images + images.detach(), 1 - images], 1)

    class Quarter(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([3 * images + images.detach(), torch.zeros_like(images)], 1)

    assert met(Quarter()).unseen == pytest.approx(0.25, abs=0.01)
    assert met(Half()).unseen == pytest.approx(1 / 5**0.5, abs=0.01)  # of changes by 2 and 1


def test_a_network_that_draws_is_not_asked(met: Any) -> None:
    class Drawing(Voting):
        def between(self, features: Tensor) -> Tensor:
            return super().between(features) + 0.1 * torch.randn_like(features)

    network = met(Drawing())
    assert network.unseen is None
    assert network.marks == ("random-network",)


def test_another_way_altogether_is_hidden_whole(met: Any) -> None:
    class Branching(Smooth):
        """Another number of steps for each image."""

        def between(self, features: Tensor) -> Tensor:
            for _ in range(features.detach().numpy().tobytes()[0] % 7):
                features = features + features.detach().amax(1, keepdim=True)
            return features.detach()

    assert met(Branching()).unseen > UNSEEN


def test_one_that_refuses_an_image_with_a_gradient_is_left_to_the_attacks(met: Any) -> None:
    class Refusing(Smooth):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(torch.from_numpy(images.numpy()))

    network = met(Refusing())
    assert network.unseen is None
    assert network.marks == ()
