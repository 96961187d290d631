"""Whether gradients of low precision are those of fp32: compared on a case, with a loss in use.

Where a network saturates in bf16, a tanh at its end for instance, the gradient there is exactly
zero, which hides a weakness and does not cure it. Such a copy must not serve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from segbench.engine.handed import handed, input_gradient, laid_out

if TYPE_CHECKING:
    from segbench.api import Goal, Loss
    from segbench.engine.prepare import Door, GradientCopy

NOT_FINITE = "NaN or infinite"
"""What is said of a gradient that cannot be compared."""

_MOST_LOST, _LEAST_SIGNS, _LEAST_COSINE = 0.05, 0.8, 0.9


@dataclass(frozen=True)
class Fidelity:
    """How a gradient compares with the one that it stands for.

    Attributes:
        lost: of the pixels that have a gradient, the share whose copy is exactly zero.
        signs: of the same pixels, the share of equal signs.
        cosine: of the angle between the two.
    """

    lost: float
    signs: float
    cosine: float

    @property
    def faithful(self) -> bool:
        """Whether an attack may follow it."""
        alike = self.signs >= _LEAST_SIGNS and self.cosine >= _LEAST_COSINE
        return self.lost <= _MOST_LOST and alike

    def __str__(self) -> str:
        if math.isnan(self.cosine):
            return NOT_FINITE
        return f"cosine {self.cosine:.3f}, signs {self.signs:.1%}, lost {self.lost:.1%}"


NO_NUMBER = Fidelity(math.nan, math.nan, math.nan)
"""Of a gradient that is NaN or infinite."""


def compare_gradients(
    copy: GradientCopy, exact: GradientCopy, image: Tensor, door: Door, loss: Loss, goal: Goal
) -> Fidelity:
    """Both copies' gradients of a loss at one image (1, C, *spatial).

    Where the loss has none, as one has that is out of reach of its margin, a weighted sum of the
    logits is taken in its place.
    """
    reference = _gradient(exact, image, door, lambda logits: loss(logits, goal))
    if not reference.any():
        return compare(*(_gradient(one, image, door, weighted) for one in (copy, exact)))
    return compare(_gradient(copy, image, door, lambda logits: loss(logits, goal)), reference)


def repeats(copy: GradientCopy, images: Tensor, door: Door) -> bool:
    """Whether a copy gives the same gradient twice, to the bit; images (B, C, *spatial)."""
    first, second = (_gradient(copy, images, door, weighted).nan_to_num() for _ in range(2))
    return torch.equal(first, second)


def compare(gradient: Tensor, reference: Tensor) -> Fidelity:
    """A gradient with the one that it stands for, of one shape."""
    ours, theirs = gradient.flatten().double(), reference.flatten().double()
    there = theirs != 0
    if not there.any():
        return Fidelity(0.0, 1.0, 1.0)
    signs = (ours.sign() == theirs.sign())[there].double().mean()
    lengths = ours.norm() * theirs.norm()
    cosine = (ours @ theirs) / lengths if lengths > 0 else lengths
    return Fidelity(float((ours[there] == 0).double().mean()), float(signs), float(cosine))


def loss_key(loss: Any) -> str:
    """What a loss is known by within a process: its function, its owner, what it was told."""
    while isinstance(loss, partial):
        loss = loss.func
    held = [cell.cell_contents for cell in getattr(loss, "__closure__", None) or ()]
    told = [value for value in held if isinstance(value, str | int | float)]
    name = getattr(loss, "__qualname__", type(loss).__qualname__)
    return f"{getattr(loss, '__module__', '')}.{name} {getattr(loss, '__self__', None)!r} {told}"


def _gradient(
    copy: GradientCopy, image: Tensor, door: Door, value: Callable[[Tensor], Tensor]
) -> Tensor:
    leaf = laid_out(image.detach()).clone().requires_grad_()
    with torch.enable_grad(), copy.autocast():
        answer = copy.module(handed(leaf))
    with torch.enable_grad():
        total = value(door(answer, leaf)).sum()
        return input_gradient(total, leaf) if total.requires_grad else torch.zeros_like(leaf)


def weighted(logits: Tensor, goal: Goal | None = None) -> Tensor:
    """A sum per case, with weights that differ per logit, so that no sign error can cancel."""
    return (logits.flatten(1) * torch.linspace(-1, 1, logits[0].numel()).to(logits)).sum(1)
