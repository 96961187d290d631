"""What the generated images are made of: smooth random fields, soft edges, curved strokes."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]  # (H, W)


def grid(size: int) -> tuple[Field, Field]:
    """(x, y), each (size, size): pixel centres from -1 to 1, x to the right and y downwards."""
    axis = (2 * np.arange(size) + 1) / size - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


def smooth_field(random: np.random.Generator, size: int, cells: int) -> Field:
    """A field of mean near 0 and deviation near 1, varying over 1/cells of the side."""
    coarse = random.standard_normal((cells + 2, cells + 2))
    weights = _interpolation(size, cells)
    return weights @ coarse @ weights.T


@cache
def _interpolation(size: int, cells: int) -> Field:
    """(size, cells + 2): smoothstep interpolation of knots, rows of unit length."""
    position = (np.arange(size) + 0.5) * cells / size
    knot = np.floor(position).astype(int)
    part = position - knot
    part = part * part * (3 - 2 * part)
    weights = np.zeros((size, cells + 2))
    weights[np.arange(size), knot] = 1 - part
    weights[np.arange(size), knot + 1] = part
    unit: Field = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return unit


def texture(random: np.random.Generator, size: int, octaves: tuple[int, ...]) -> Field:
    """A sum of smooth fields; finer ones are weaker, in inverse proportion to their frequency."""
    total = np.zeros((size, size))
    for cells in octaves:
        total += smooth_field(random, size, cells) * (octaves[0] / cells) ** 0.5
    deviation: Field = total / max(float(total.std()), 1e-6)
    return deviation


def soft(distance: Field, width: float) -> Field:
    """A step from 0 (distance below 0) to 1 (above), blurred over ``width``."""
    return 0.5 * (1 + np.tanh(distance / width))


def stroke(along: Field, across: Field, reach: float, width: float) -> Field:
    """1 on a line of half length ``reach`` along one coordinate, falling off across it."""
    line: Field = np.exp(-((across / width) ** 2)) * soft(reach - np.abs(along), 0.05)
    return line
