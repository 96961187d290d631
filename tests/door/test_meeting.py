"""A network of the user's own that must know more of a case than its image is told of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import segbench
from segbench.api import Case
from segbench.errors import MachineError

SIDE, CASES = 12, 2


class Told(nn.Module):
    """It knows the truth of the case that it was told of, and the image decides nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.known: Tensor | None = None

    def meet(self, case: Case) -> None:
        self.known = torch.from_numpy(case.labels).float()

    def logits(self, images: Tensor) -> Tensor:
        assert self.known is not None, "told of no case before it was asked"
        height, width = images.shape[2:]
        known = torch.zeros(height, width)
        rows, columns = (min(a, b) for a, b in zip(known.shape, self.known.shape, strict=True))
        known[:rows, :columns] = self.known[:rows, :columns]
        return 4 * known.expand(len(images), 1, -1, -1) - 2 + 0.1 * images[:, :1]

    def forward(self, images: Tensor) -> Any:
        return self.logits(images)


class Listed(Told):
    """One whose prediction is the second of what it answers."""

    def forward(self, images: Tensor) -> Any:
        return [images.mean((2, 3)), self.logits(images)]


class Probable(Told):
    """One whose answer is a probability, by a function that could be cut off its graph."""

    def forward(self, images: Tensor) -> Any:
        return torch.sigmoid(self.logits(images))


class Activated(Told):
    """The same by a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.Sigmoid()

    def forward(self, images: Tensor) -> Any:
        return self.activation(self.logits(images))


class Within(nn.Module):
    """One of which a layer must know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Told()

    def forward(self, images: Tensor) -> Any:
        return self.layer(images)


class Padded(Told):
    """One that takes multiples of eight alone."""

    def forward(self, images: Tensor) -> Any:
        if images.shape[2] % 8 or images.shape[3] % 8:
            raise ValueError("sides must be multiples of 8")
        return self.logits(images)


class Refusing(Told):
    """One that fails when it is told."""

    def meet(self, case: Case) -> None:
        raise ValueError("no spacing")


def test_one_that_fails_when_it_is_told_is_said_to_have() -> None:
    images, labels = torch.rand(1, 1, SIDE, SIDE), torch.ones(1, SIDE, SIDE, dtype=torch.int64)
    words = r"model Refusing: it failed when it was told of case .*: ValueError: no spacing"
    with pytest.raises(MachineError, match=words):
        segbench.evaluate(Refusing(), (images, labels), attacks=["fgsm"], eps=["8/255"])


NORMALISED, FRONTED = {"normalize": "mean=0.5,std=0.25"}, {"front": "bit-depth"}
ASKED: list[tuple[type[nn.Module], dict[str, str]]] = [
    *((kind, {}) for kind in (Told, Listed, Probable, Activated, Within, Padded)),
    *((kind, NORMALISED) for kind in (Told, Activated)),
    *((kind, FRONTED) for kind in (Told, Within)),
]


@pytest.mark.filterwarnings("ignore:.*of its answer 1 is scored")
@pytest.mark.parametrize(("kind", "options"), ASKED)
def test_it_is_told_of_every_case(kind: type[nn.Module], options: dict[str, str]) -> None:
    """So it is right about all of them, and an attack that cannot turn its answer leaves it so."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.uniform(0, 1, (CASES, 1, SIDE, SIDE)).astype(np.float32))
    labels = torch.from_numpy(draw.integers(0, 2, (CASES, SIDE, SIDE)))
    result = segbench.evaluate(
        kind(), (images, labels), attacks=["pgd:steps=2"], eps=["8/255"], device="cpu", **options
    )
    assert not result.run.failures
    assert len(result.cases) == 2 * CASES
    assert (result.cases["jaccard"] == 1).all()
