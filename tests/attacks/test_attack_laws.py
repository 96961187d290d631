"""What holds for every attack on every network, image and mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks import NamedAttack, load_attack
from segbench.engine import ball
from segbench.engine.network import Network
from segbench.errors import UserError


class Curved(nn.Module):
    """A small smooth network whose every pixel sees its neighbours; K logits or one sigmoid."""

    def __init__(self, channels: int = 1, outputs: int = 2, dims: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        generator = torch.Generator().manual_seed(3)
        self.body, self.head = conv(channels, 4, 3, padding=1), conv(4, outputs, 1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.body(images)))
        return logits


def scene(*shape: int, classes: int = 2) -> tuple[Tensor, Tensor]:
    """Random images (B, C, *spatial) and labels (B, *spatial) of every class."""
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(shape, generator=generator)
    return images, torch.randint(0, classes, (shape[0], *shape[2:]), generator=generator)


def assert_in_ball_and_box(attack: NamedAttack, found: Tensor, images: Tensor, eps: float) -> None:
    delta = found.double() - images.double()
    norm = {"linf": torch.inf, "l2": 2}[attack.attack.budget_kind]
    assert (delta.flatten(1).norm(norm, dim=1) <= eps * (1 + 1e-6) + 1e-7).all()
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert found.dtype == torch.float32


def mean_loss(network: Network, images: Tensor, labels: Tensor) -> float:
    logits = network.exact_logits(images)
    return nn.functional.cross_entropy(logits, labels, ignore_index=-7).item()


SCENES = {
    "two classes": ((3, 1, 8, 8), 2),
    "four classes of colour": ((3, 3, 8, 8), 4),
    "three dimensions": ((2, 1, 4, 5, 6), 3),
    "one pixel wide": ((2, 2, 9, 1), 2),
    "one pixel high": ((2, 2, 1, 9), 2),
    "one pixel": ((1, 1, 1, 1), 2),
}


@pytest.mark.parametrize("name", SCENES)
def test_result_lies_in_ball_and_box_and_raises_the_loss(
    attack: NamedAttack, name: str, prepared: Any, run: Any
) -> None:
    shape, classes = SCENES[name]
    images, labels = scene(*shape, classes=classes)
    network = prepared(Curved(shape[1], classes, len(shape) - 2), images, classes)
    if attack.attack.plan(run.__defaults__ or _budget(attack)).labels == "prediction":
        labels = network.as_labels(network.exact_logits(images))
    found = run(network, attack, images, labels).images
    assert_in_ball_and_box(attack, found, images, 8 / 255)
    assert mean_loss(network, found, labels) > mean_loss(network, images, labels)
