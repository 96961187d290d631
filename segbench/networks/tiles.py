"""Sliding windows with a gradient: every tile is asked, weighted and added up.

nnU-Net's and MONAI's own predictors run without gradients, so their arithmetic is done again here.
A tile's activations are not kept for the gradient but computed again, one tile at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Ask = Callable[[Tensor], Tensor]
"""(B, C, *tile) -> logits (B, K, *tile)."""


def slide(
    images: Tensor,
    tile: Sequence[int],
    starts: Sequence[Sequence[int]],
    weight: Tensor,
    ask: Ask,
) -> Tensor:
    """The weighted mean (1, K, *spatial) of the answers to all tiles of an image (1, C, *spatial).

    Args:
        starts: along each axis, where tiles begin.
        weight: (*tile), of each position within a tile.
    """
    places = list(itertools.product(*starts))
    frugal = len(places) > 1 and images.requires_grad
    total: Tensor | float = 0.0
    weights = torch.zeros(images.shape[2:], device=images.device)
    for place in places:
        window = tuple(slice(at, at + size) for at, size in zip(place, tile, strict=True))
        part = images[(slice(None), slice(None), *window)]
        answer = checkpoint(ask, part, use_reentrant=False) if frugal else ask(part)
        total = total + _placed(answer * weight, place, images.shape[2:])
        weights[window] += weight
    whole: Tensor = total / weights
    return whole


def _placed(answer: Tensor, place: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The answer to a tile where it belongs in the whole, zero elsewhere."""
    sides = [
        (at, whole - at - size)
        for at, size, whole in zip(place, answer.shape[2:], shape, strict=True)
    ]
    return torch.nn.functional.pad(answer, [n for side in reversed(sides) for n in side])


def mirrored(ask: Ask, axes: Sequence[int]) -> Ask:
    """The mean over the answers to all flips along those axes of an image, each flipped back."""
    flips = [
        [axis + 2 for axis in some]
        for count in range(len(axes) + 1)
        for some in itertools.combinations(axes, count)
    ]

    def asked(images: Tensor) -> Tensor:
        answers = [ask(images.flip(flip)).flip(flip) if flip else ask(images) for flip in flips]
        return torch.stack(answers).mean(0)

    return asked


def nnunet_starts(shape: Sequence[int], tile: Sequence[int], step: float = 0.5) -> list[list[int]]:
    """Along each axis, where nnU-Net's tiles begin: evenly, at most ``step`` tiles apart."""
    starts = []
    for whole, size in zip(shape, tile, strict=True):
        count = math.ceil((whole - size) / (size * step)) + 1
        apart = (whole - size) / (count - 1) if count > 1 else 0.0
        starts.append([round(apart * n) for n in range(count)])
    return starts


@lru_cache(maxsize=8)
def _gaussian(tile: tuple[int, ...], sigma: float) -> Tensor:
    from scipy.ndimage import gaussian_filter

    peak = np.zeros(tile)
    peak[tuple(size // 2 for size in tile)] = 1
    found = gaussian_filter(peak, [size * sigma for size in tile], mode="constant", cval=0)
    found /= found.max()
    found[found == 0] = found[found > 0].min()
    return torch.from_numpy(found.astype(np.float32))


def nnunet_gaussian(tile: Sequence[int]) -> Tensor:
    """nnU-Net's weights (*tile): a Gaussian whose deviation is an eighth of the tile."""
    return _gaussian(tuple(tile), 1 / 8)
