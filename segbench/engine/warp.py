"""Images moved by a displacement of every pixel, and their truth with them.

A result's pixel at x shows what was at x + d(x), both in pixels. Images are interpolated linearly,
labels are the nearest pixel's; what would come from beyond the edge is the edge's. The engine alone
does this to images and labels that are scored, so that the two cannot come apart.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def warped(values: Tensor, displacement: Tensor) -> Tensor:
    """Values (B, N, *spatial) moved by (B, dims, *spatial) pixels; differentiable in both."""
    places = []
    for axis, at in enumerate(_places(displacement).unbind(1)):
        places.append(2 * at / max(displacement.shape[axis + 2] - 1, 1) - 1)
    grid = torch.stack(places[::-1], -1)  # the last axis comes first
    return F.grid_sample(values, grid, "bilinear", "border", align_corners=True)


def warped_labels(labels: Tensor, displacement: Tensor) -> Tensor:
    """Whole numbers (B, *spatial) or (B, S, *spatial) moved likewise, each the nearest pixel's."""
    spatial = displacement.shape[2:]
    flat = torch.zeros_like(displacement[:, 0], dtype=torch.int64)
    for axis, at in enumerate(_places(displacement).unbind(1)):
        flat = flat * spatial[axis] + at.round().long().clamp(0, spatial[axis] - 1)
    planes = labels.reshape(len(labels), -1, flat[0].numel())
    index = flat.flatten(1)[:, None].expand_as(planes)
    return planes.gather(2, index).view_as(labels)


def _places(displacement: Tensor) -> Tensor:
    """Where every pixel is taken from, (B, dims, *spatial), in pixels from the first."""
    axes = [torch.arange(length, device=displacement.device) for length in displacement.shape[2:]]
    return displacement + torch.stack(torch.meshgrid(*axes, indexing="ij"))
