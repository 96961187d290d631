"""The squares of Square in L2 (Andriushchenko et al., ECCV 2020, arXiv 1912.00049, algorithm 3).

A square holds two bumps of opposite sign. Its norm is taken from another square, which is cleared,
and from what the box has left unused of eps. In volumes squares are cubes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Context
from segbench.engine.ball import flat_norm, per_case

TILES = 5  # along the image's shortest edge, in the first candidate


def tiled_start(context: Context, numbers: Tensor) -> Tensor:
    """The clean image and a grid of bumps of L2 norm eps; ``numbers`` (B, C, *tiles) choose signs.

    The pixels that the grid leaves over are shared by both ends of an axis.
    """
    images, counts = context.images, numbers.shape[2:]
    side, dims = tile_side(images.shape[2:]), images.dim() - 2
    delta = torch.where(numbers < 0.5, -1.0, 1.0)
    for axis in range(2, images.dim()):
        delta = delta.repeat_interleave(side, axis)
    delta = delta * window([side] * dims, 0).to(images).repeat(*counts)
    margins: list[int] = []
    for length, count in zip(images.shape[2:], counts, strict=True):
        left = (length - count * side) // 2
        margins = [left, length - count * side - left, *margins]
    return _of_norm_eps(context, F.pad(delta, margins))


def tile_side(spatial: Sequence[int]) -> int:
    """The side of a tile in pixels."""
    return max(1, min(spatial) // TILES)


def side_in_l2(side: int, spatial: Sequence[int]) -> int:
    """The side of a square: odd and at least 3, as in the public code, where the image allows."""
    return min(max(side, 3) | 1, *spatial)


def moved_norm(context: Context, best: Tensor, numbers: Tensor, side: int) -> Tensor:
    """The best image (B, C, *spatial) with one square changed and another one cleared.

    ``numbers`` (B, 2 * dims + 1 + C) place both squares, lay out the bumps, and choose their signs.
    """
    (channels, *spatial), dims = best.shape[1:], best.dim() - 2
    there, others, layout = numbers[:, :dims], numbers[:, dims : 2 * dims], numbers[:, 2 * dims]
    first, bumps = _placed(there, layout, spatial, side)
    second, _ = _placed(others, layout, spatial, side)
    delta = best - context.images
    unused = (context.budget.eps**2 - flat_norm(delta, 2) ** 2).clamp_min(0)
    room = (unused[:, None] / channels + _norms(delta * (first | second)) ** 2).sqrt()
    signs = torch.where(numbers[:, 2 * dims + 1 :] < 0.5, -1.0, 1.0)
    new = _wide(signs, best) * bumps + _scaled(delta * first, torch.ones_like(room))
    kept = delta * ~(first | second)
    return _of_norm_eps(context, kept + _scaled(new, room))


def window(lengths: Sequence[int], axis: int) -> Tensor:
    """Two bumps of opposite sign, side by side along an axis, of L2 norm 1 together."""
    half = [n // 2 if a == axis else n for a, n in enumerate(lengths)]
    rest = [n - n // 2 if a == axis else n for a, n in enumerate(lengths)]
    both = torch.cat([bump(half), -bump(rest)], axis) if half[axis] else bump(rest)
    normalised: Tensor = both / both.norm()
    return normalised


def bump(lengths: Sequence[int]) -> Tensor:
    """The sum of 1 / (k + 1)^2 over the rings k from a pixel's own outwards; of L2 norm 1."""
    rings = 1 / torch.arange(1, max(lengths) // 2 + 2) ** 2
    heights = rings.flip(0).cumsum(0).flip(0)
    axes = [(torch.arange(length) - length // 2).abs() for length in lengths]
    ring = torch.stack(torch.meshgrid(*axes, indexing="ij")).amax(0)
    values: Tensor = heights[ring] / heights[ring].norm()
    return values


def _placed(
    numbers: Tensor, layout: Tensor, spatial: Sequence[int], side: int
) -> tuple[Tensor, Tensor]:
    """Each case's square (B, 1, *spatial): where it is, and its bumps along an axis of its own."""
    dims, batch = len(spatial), len(numbers)
    inside = torch.ones(batch, *[1] * dims, dtype=torch.bool, device=numbers.device)
    index = []
    for axis, length in enumerate(spatial):
        start = (numbers[:, axis] * (length - side + 1)).floor()
        place = torch.arange(length, device=numbers.device) - start[:, None]
        place = place.view(batch, *[length if a == axis else 1 for a in range(dims)])
        inside = inside & (place >= 0) & (place < side)
        index.append(place.clamp(0, side - 1).long())
    layouts = torch.stack([window([side] * dims, axis) for axis in range(dims)]).to(numbers)
    own = per_case((layout * dims).long(), inside)
    return inside[:, None], (layouts[(own, *index)] * inside)[:, None]


def _norms(delta: Tensor) -> Tensor:
    """The L2 norm (B, C) of every channel."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(2), dim=2)
    return norms


def _scaled(delta: Tensor, norms: Tensor) -> Tensor:
    """The same direction in every channel, of those norms (B, C); 0 stays 0."""
    tiny = torch.finfo(delta.dtype).tiny
    return delta * _wide(norms / _norms(delta).clamp_min(tiny), delta)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(*values.shape, *[1] * (like.dim() - 2))


def _of_norm_eps(context: Context, delta: Tensor) -> Tensor:
    length = flat_norm(delta, 2).clamp_min(math.sqrt(torch.finfo(delta.dtype).tiny))
    return context.images + per_case(context.budget.eps / length, delta) * delta
