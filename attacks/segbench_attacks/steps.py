"""Where an attack may start in its ball, and the steepest step of a given length in each norm."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from segbench.api import Context
from segbench.engine.ball import flat_norm, per_case

Norm = Literal["linf", "l2", "l1"]

_L1_SHARE = 0.01
# The draws of radii follow those of directions, which no restart count reaches.
_RADII = 2**20


def random_point(context: Context, norm: Norm) -> Tensor:
    """A point of the ball (B, C, *spatial), uniform in its volume; one draw per restart.

    Where the image may change in a region only, of the ball within that region.
    """
    images, eps, draw = context.images, context.budget.eps, context.restart
    shape, noise = images.shape[1:], context.noise
    if norm == "linf":
        return images + eps * (2 * noise.uniform(draw, shape) - 1)
    if norm == "l2":
        direction = _free(noise.normal(draw, shape), context)
        radius = noise.uniform(draw + _RADII, ()) ** (1 / _count(context))
        length = eps * radius / _positive(flat_norm(direction, 2))
        return images + per_case(length, images) * direction
    # n of n + 1 exponentials over their sum are uniform in the simplex; then signs at random.
    numbers = _free(2 * noise.uniform(draw, shape) - 1, context)
    sizes = -(-numbers.abs()).log1p()
    rest = -(-noise.uniform(draw + _RADII, ())).log1p()
    share = eps / _positive(flat_norm(sizes, 1) + rest)
    return images + per_case(share, images) * sizes * numbers.sign()


def _free(values: Tensor, context: Context) -> Tensor:
    """Values (B, C, *spatial), 0 where the image may not change."""
    return values if context.region is None else values * context.region


def _count(context: Context) -> int | Tensor:
    """How many values of a case may change, a number or one per case (B,)."""
    channels = context.images.shape[1]
    if context.region is None:
        return context.images[0].numel()
    return channels * context.region.flatten(1).sum(1).clamp_min(1)


def ascend(images: Tensor, gradient: Tensor, length: float | Tensor, norm: Norm) -> Tensor:
    """``images`` moved along the gradient by ``length``, a number or one per case (B,).

    L-infinity takes the sign, L2 the normalised gradient. L1 moves the hundredth of the pixels
    with the largest gradients (Tramèr & Boneh, NeurIPS 2019); what the box stops, others take.
    """
    if isinstance(length, Tensor):
        length = per_case(length, images)
    if norm == "linf":
        return images + length * gradient.sign()
    if norm == "l2":
        return images + length * unit(gradient)
    return images + _sparse(images, gradient, length)


def _sparse(images: Tensor, gradient: Tensor, length: float | Tensor) -> Tensor:
    """A change of L1 length ``length``, or as much of it as the box allows.

    Pixels in order of their gradient take an equal part each, or what room they have.
    """
    sign = gradient.sign()
    room = torch.where(sign > 0, 1 - images, images) * sign.abs()
    part = length / math.ceil(_L1_SHARE * images[0].numel())
    part = torch.minimum(room, torch.as_tensor(part, device=images.device)).clamp_min(0).flatten(1)
    order = gradient.abs().flatten(1).argsort(dim=1, descending=True, stable=True)
    part = part.gather(1, order)
    left = torch.as_tensor(length, device=images.device).flatten()[:, None] - part.cumsum(1) + part
    taken = torch.zeros_like(part).scatter(1, order, torch.minimum(left.clamp_min(0), part))
    return taken.view_as(images) * sign


def unit(gradient: Tensor) -> Tensor:
    """The gradient of each case over its L2 norm; 0 stays 0.

    Scaled by its peak first, or the squares of a faint gradient vanish in fp32.
    """
    direction = gradient / per_case(_positive(flat_norm(gradient, torch.inf)), gradient)
    return direction / per_case(_positive(flat_norm(direction, 2)), gradient)


def _positive(norms: Tensor) -> Tensor:
    return norms.clamp_min(torch.finfo(norms.dtype).tiny)
