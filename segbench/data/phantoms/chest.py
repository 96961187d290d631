"""One generated chest radiograph. Coordinates: x, y in [-1, 1], x to the right, y downwards.

Lungs are only a little darker than the soft tissue; ribs cross their borders, the heart hides part
of the (patient's) left one, and dark shoulders and stomach gas look like lung but are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.data.phantoms.fields import Field, grid, smooth_field, soft, stroke, texture


@dataclass(frozen=True)
class Anatomy:
    """The signed fields a chest is drawn from, positive inside, (H, W) each."""

    lungs: Field
    heart: Field
    body: Field


def draw_chest(size: int, random: np.random.Generator) -> tuple[Field, NDArray[np.bool_]]:
    """(1, size, size) in [0, 1] and the lungs, which end at the heart."""
    x, y = grid(size)
    x = x - random.uniform(-0.06, 0.06) + 0.03 * smooth_field(random, size, 3)
    y = y - random.uniform(-0.06, 0.06) + 0.03 * smooth_field(random, size, 3)
    turn = random.uniform(-0.08, 0.08)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    anatomy = _anatomy(x, y, random)
    lungs = np.minimum(anatomy.lungs, -anatomy.heart)
    edge = random.uniform(0.02, 0.05)
    air = soft(lungs, edge)
    image = random.uniform(0.56, 0.70) + 0.12 * np.exp(-((x / 0.17) ** 2))  # tissue, spine
    image = image + random.uniform(0.02, 0.10) * soft(anatomy.heart, 0.06)
    image = image - random.uniform(0.13, 0.30) * air
    image = image + 0.035 * air * texture(random, size, (size // 8, size // 4))  # vessels
    image = image - random.uniform(0.25, 0.5) * soft(-anatomy.body, 0.03)  # air around the body
    image = image - _stomach_gas(x, y, random)
    image = image + _ribs(x, y, random) * soft(anatomy.body, 0.05) + _clavicles(x, y, random)
    image = image + 0.07 * smooth_field(random, size, 2) + 0.025 * texture(random, size, (6, 12))
    image = np.clip(image, 0.01, 1.0) ** random.uniform(0.8, 1.3)
    image = image + random.uniform(0.015, 0.04) * random.standard_normal((size, size))
    return image[None], lungs > 0


def _anatomy(x: Field, y: Field, random: np.random.Generator) -> Anatomy:
    top, bottom = random.uniform(-0.85, -0.70), random.uniform(0.35, 0.65)
    half, gap = random.uniform(0.62, 0.78), random.uniform(0.10, 0.17)
    sides = []
    for side in (-1.0, 1.0):
        u = side * x  # distance from the midline
        width = half * random.uniform(0.94, 1.06)
        height = np.clip((y - top) / (bottom - top), 0.0, None)  # 0 at the apex, 1 at the base
        outer = gap + (width - gap) * (1 - np.exp(-3.2 * height)) ** 0.8
        dome = (
            bottom
            + random.uniform(-0.06, 0.04)
            - 0.22 * np.cos(np.clip((u - 0.4 * width) / (0.65 * width), -1.0, 1.0) * np.pi / 2)
        )
        inner = gap + random.uniform(0.0, 0.05) * np.sin(6 * height + random.uniform(0, 6))
        sides.append(np.minimum.reduce([u - inner, outer - u, dome + 0.12 - y, y - top]))
    centre = (random.uniform(0.10, 0.20), bottom - random.uniform(0.22, 0.30))
    radii = (random.uniform(0.28, 0.40), random.uniform(0.26, 0.34))
    heart = 0.3 * (
        1 - np.hypot((x - centre[0]) / radii[0], (y - centre[1] - 0.2 * (x - 0.1)) / radii[1])
    )
    shoulder = 0.95 - 0.55 * np.clip(-y - 0.45, 0.0, None) ** 1.1 - np.abs(x) * 0.98
    return Anatomy(np.maximum(*sides), heart, shoulder)


def _ribs(x: Field, y: Field, random: np.random.Generator) -> Field:
    """Bright bands, steep behind and shallow in front, through the lungs and beyond."""
    pitch, phase = random.uniform(0.17, 0.22), random.uniform(0.0, 1.0)
    reach = np.abs(x)
    posterior = np.cos(2 * np.pi * ((y - 0.55 * reach + 0.35 * reach**2) / pitch + phase))
    anterior = np.cos(2 * np.pi * ((y + 0.45 * reach) / (1.25 * pitch) + 2 * phase))
    bands = np.clip(posterior, 0.1, None) + 0.5 * np.clip(anterior, 0.2, None)
    ribs: Field = random.uniform(0.05, 0.10) * bands * soft(reach - 0.12, 0.05)
    return ribs


def _clavicles(x: Field, y: Field, random: np.random.Generator) -> Field:
    total = np.zeros_like(x)
    for side in (-1.0, 1.0):
        height, slope = random.uniform(-0.66, -0.52), random.uniform(-0.25, 0.1)
        along = side * x - 0.42
        total += 0.11 * stroke(along, y - height - slope * along, 0.33, 0.035)
    return total


def _stomach_gas(x: Field, y: Field, random: np.random.Generator) -> Field:
    radii = random.uniform(0.06, 0.16, size=2)
    distance = np.hypot((x - random.uniform(0.3, 0.5)) / radii[0], (y - 0.8) / radii[1])
    return random.uniform(0.0, 0.25) * soft(1 - distance, 0.15)
