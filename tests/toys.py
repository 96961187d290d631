"""Networks, scenes and stand-ins that tests of several rooms share; the rest stay in theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segbench.api import Case, Entry
from segbench.engine.network import Network
from segbench.metrics import regions
from segbench.networks import LoadedModel


class Curved(nn.Module):
    """A small smooth network whose every pixel sees its neighbours; K logits or one sigmoid."""

    def __init__(self, channels: int = 1, outputs: int = 2, dims: int = 2) -> None:
        super().__init__()
        conv: Any = nn.Conv2d if dims == 2 else nn.Conv3d
        generator = torch.Generator().manual_seed(3)
        self.body, self.head = conv(channels, 4, 3, padding=1), conv(4, outputs, 1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.body(images)))
        return logits


class Dense(nn.Module):
    """A small smooth network with three classes: (B, 2, H, W) to (B, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        generator = torch.Generator().manual_seed(8)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.body(images)))
        return logits


def dense_scene(*spatial: int) -> tuple[Dense, Tensor, Tensor]:
    """The network, images with pixels at the box, and labels that agree with it mostly."""
    generator = torch.Generator().manual_seed(9)
    net, images = Dense().eval(), torch.rand(3, 2, *spatial, generator=generator)
    images[:, :, 0], images[:, :, 1] = 0, 1
    with torch.no_grad():
        labels = net(images).argmax(1)
    return net, images, torch.where(torch.rand(3, *spatial, generator=generator) < 0.2, 0, labels)


def curved_scene(cases: int = 4) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) and what ``Curved`` says of them."""
    images = torch.rand(cases, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, Curved().eval()(images).argmax(1)


class Gains(nn.Module):
    """Class k's logit is 8 times channel k."""

    def forward(self, images: Tensor) -> Tensor:
        return 8 * images


class Mixed:
    """Three cases whose channels differ by 0.25: a budget above 1/8 reaches any target."""

    class_names = ("background", "heart", "lung")
    in_channels, spatial_dims, resize_rule, splits = 3, 2, "none", ("train", "test")
    sides = (5, 6)

    def entries(self, split: str) -> list[Entry]:
        return [Entry(f"c{n}", f"c{n}", (3, *self.sides)) for n in range(3)]

    def load(self, case_id: str) -> Case:
        order = np.random.default_rng(int(case_id[1:])).random((3, *self.sides)).argsort(0)
        image = (0.2 + 0.25 * order).astype(np.float32)
        labels = image.argmax(0)
        labels[0, 0] = 255
        return Case(case_id, case_id, image, labels, self.class_names, 255)

    def fingerprint(self) -> str:
        return "mixed"


def scores(network: Network, images: Tensor, labels: Tensor, ignore: int | None = None) -> Tensor:
    """Each case's Jaccard with the labels, (B,)."""
    predicted = network.as_labels(network.exact_logits(images))
    return regions.case_score(network.score(predicted, labels, ignore))


@dataclass(frozen=True)
class Ready:
    """A network that is already in memory, by its class."""

    kind: type[nn.Module]
    name: str = "net"

    def load(self, dataset: Any) -> LoadedModel:
        return LoadedModel(self.kind(), "ab" * 32, {})


class Silence:
    """Hears of progress and says nothing."""

    def model(self, name: str, scores: int) -> None: ...

    def cell(self, model: str, cell: Any) -> None: ...

    def busy(self, what: str) -> None: ...

    def cases(self, computed: int, found: int) -> None: ...

    def gradients(self, count: int) -> None: ...

    def warn(self, sentence: str) -> None: ...


SHIFT = """
from dataclasses import dataclass
from fractions import Fraction
import torch
from segbench.api import Budget

@dataclass(frozen=True)
class Shift:
    needs = "labels"
    budget_kind = "severity"

    @property
    def budgets(self):
        return [Budget("severity", Fraction(n)) for n in (1, 2)]

    def warp(self, objective, images, goal, budget, noise):
        moves = torch.zeros(len(images), images.dim() - 2, *images.shape[2:])
        moves[:, -1] = float(budget.value)
        return moves
"""
"""A stranger's warp, by whole pixels."""
