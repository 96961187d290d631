"""One generated dermoscopy image: a pigmented lesion, hairs, vignette, gel, uneven light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segbench.data.phantoms.fields import Field, grid, smooth_field, soft, stroke, texture

BROWN = np.array([0.42, 0.27, 0.19])
BLUE_GRAY = np.array([0.40, 0.40, 0.47])
RED = np.array([0.58, 0.25, 0.24])


def draw_lesion(size: int, random: np.random.Generator) -> tuple[Field, NDArray[np.bool_]]:
    """(3, size, size) in [0, 1] and the lesion."""
    x, y = grid(size)
    inside = _border(x, y, random)
    strength = soft(inside, random.uniform(0.03, 0.12)) * random.uniform(0.5, 0.95)
    patches = 1 + 0.22 * texture(random, size, (3, 6, 12))
    image = _skin(size, random)
    pigment = _pigment(size, random)
    cover = np.clip(strength * patches, 0.0, 1.0)
    image = image * (1 - cover) + pigment * cover
    image = image * (1 - 0.05 * soft(inside, 0.05) * np.abs(texture(random, size, (size // 4,))))
    image = image - _blemishes(x, y, random) * np.array([0.10, 0.16, 0.16])[:, None, None]
    image = image * _light(x, y, size, random)
    for _ in range(random.integers(0, 9)):
        hair = _hair(x, y, random, size)
        image = image * (1 - hair) + hair * random.uniform(0.08, 0.3)
    image = image + _bubbles(x, y, random)
    noise = random.standard_normal((3, size, size)) * random.uniform(0.01, 0.03)
    return image + noise, inside > 0


def _border(x: Field, y: Field, random: np.random.Generator) -> Field:
    """Positive inside a blob whose radius wanders with the angle."""
    centre = random.uniform(-0.25, 0.25, size=2)
    stretch, turn = random.uniform(0.7, 1.4), random.uniform(0, np.pi)
    dx, dy = x - centre[0], y - centre[1]
    u = (dx * np.cos(turn) + dy * np.sin(turn)) * stretch
    v = (-dx * np.sin(turn) + dy * np.cos(turn)) / stretch
    angle = np.arctan2(v, u)
    radius = np.full_like(x, random.uniform(0.3, 0.7))
    for wave in range(2, 9):
        amplitude = 0.09 * random.standard_normal() / wave**0.7
        radius = radius * (1 + amplitude * np.cos(wave * angle + random.uniform(0, 2 * np.pi)))
    border: Field = radius - np.hypot(u, v) + 0.035 * texture(random, len(x), (6, 12, 24))
    return border


def _skin(size: int, random: np.random.Generator) -> Field:
    tone = np.array([0.86, 0.66, 0.56]) * random.uniform(0.72, 1.08)
    tone = tone + random.uniform(-0.07, 0.07, size=3)
    blotches = 0.025 * smooth_field(random, size, 4)
    fine = 0.022 * texture(random, size, (size // 6, size // 3))
    tint = 0.012 * np.stack([smooth_field(random, size, 6) for _ in range(3)])
    skin: Field = tone[:, None, None] + (blotches + fine)[None] + tint
    return skin


def _pigment(size: int, random: np.random.Generator) -> Field:
    """A mixture of brown with one of three other colours, changing across the lesion."""
    tones = (BLUE_GRAY, RED, 0.5 * BROWN)
    other = tones[random.integers(0, 3)]
    brown = BROWN * random.uniform(0.7, 1.25)
    share = soft(texture(random, size, (2, 4, 8)) - random.uniform(0.0, 1.5), 0.6)
    return brown[:, None, None] * (1 - share) + other[:, None, None] * share


def _blemishes(x: Field, y: Field, random: np.random.Generator) -> Field:
    """Faint spots outside or inside, too pale and small to be the lesion."""
    total = np.zeros_like(x)
    for _ in range(random.integers(0, 5)):
        centre, radius = random.uniform(-1, 1, size=2), random.uniform(0.04, 0.16)
        distance = np.hypot(x - centre[0], y - centre[1])
        total += random.uniform(0.3, 1.0) * soft(radius - distance, 0.03)
    return total


def _light(x: Field, y: Field, size: int, random: np.random.Generator) -> Field:
    corners = np.hypot(x - random.uniform(-0.1, 0.1), y - random.uniform(-0.1, 0.1))
    vignette = 1 - random.uniform(0.05, 0.75) * soft(corners - random.uniform(0.95, 1.3), 0.15)
    light: Field = vignette * (1 + 0.05 * smooth_field(random, size, 2))
    return light


def _hair(x: Field, y: Field, random: np.random.Generator, size: int) -> Field:
    turn = random.uniform(0, np.pi)
    centre = random.uniform(-0.9, 0.9, size=2)
    along = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
    across = -(x - centre[0]) * np.sin(turn) + (y - centre[1]) * np.cos(turn)
    bend, width = random.uniform(-0.35, 0.35), random.uniform(0.6, 1.3) * 2 / size
    line = stroke(along, across - bend * along**2, random.uniform(0.3, 1.0), width)
    return random.uniform(0.35, 0.9) * line


def _bubbles(x: Field, y: Field, random: np.random.Generator) -> Field:
    total = np.zeros_like(x)
    for _ in range(random.integers(0, 4)):
        centre, radius = random.uniform(-1, 1, size=2), random.uniform(0.03, 0.1)
        ring = np.hypot(x - centre[0], y - centre[1]) - radius
        total += random.uniform(0.05, 0.2) * np.exp(-((ring / 0.02) ** 2))
    return total
