"""Gradients against finite differences: what an answer changes by is what they foretell, or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from routes import HIDDEN, HONEST, OwnBackward
from torch import Tensor, nn

from segbench.engine.differences import UNFORETOLD, unforetold_share


def share(module: nn.Module) -> float:
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    return unforetold_share(torch.no_grad()(module), module, images)


@pytest.mark.parametrize("kind", [kind for kind in HONEST if kind is not OwnBackward])
def test_a_right_gradient_foretells_it(kind: Any) -> None:
    assert share(kind()) < UNFORETOLD / 2


@pytest.mark.parametrize("kind", HIDDEN)
def test_what_no_gradient_sees_is_not_foretold(kind: Any) -> None:
    assert share(kind()) > 2 * UNFORETOLD


def test_a_backward_that_is_not_the_forwards_is_found() -> None:
    """Which is why the answer is asked, not the graph."""
    assert share(OwnBackward()) > UNFORETOLD


def test_what_does_not_change_is_foretold() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 0 * images + 1

    assert share(Constant()) == 0


class NoGradient(torch.autograd.Function):
    """A root's, of zero: the answer is right, and its gradient is no number."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.nan


def test_a_gradient_that_is_no_number_foretells_nothing() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.Tensor(NoGradient.apply(images)) - 0.5

    assert share(Broken()) == 1


class Votes(nn.Module):
    """Which neighbour is brighter."""

    def forward(self, images: Tensor) -> Tensor:
        brighter = (images > images.roll(1, -1)).to(images)
        return nn.functional.avg_pool2d(brighter, 3, 1, 1) + 0.1 * images - 0.5


class Plain(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, 3, 1, 1) - 0.5


@pytest.mark.parametrize(("module", "marks"), [(Votes(), ("hidden-routes",)), (Plain(), ())])
def test_a_script_is_held_against_its_answers(
    module: nn.Module, marks: tuple[str, ...], prepared: Any
) -> None:
    """Nobody sees into it."""
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    script = torch.jit.trace(module.eval(), images)
    assert prepared(nn.Sequential(script), images, 2).marks == marks
