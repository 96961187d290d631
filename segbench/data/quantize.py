"""An image on the levels of its own file: whole numbers of 8, 12 or 16 bits.

An adversarial pixel goes to the next level in the direction of its clean pixel. So where the clean
image lies on the levels, as that of every file kept at its own size does, the rounded image stays
in ball and box exactly, and a change of less than one level is none: 0.5/255 in an 8-bit file gives
the clean image back. A resized image lies between the levels; a pixel of it that has no level on
its way goes to the one nearest to the clean pixel, and may leave the ball by half a level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segbench.api import Case, Intensity
from segbench.errors import UserError

_FP32 = 2.0**-22  # four times what rounding to fp32 does to a pixel in [0, 1]


def require_levels(case: Case) -> tuple[Intensity, ...]:
    """The maps of a case whose file holds whole numbers, one per channel.

    Raises:
        UserError: it does not, or does not say.
    """
    maps = case.intensity or ()
    if not maps or any(scale.bits is None for scale in maps):
        raise UserError(
            f"case {case.case_id} does not come from a file of whole numbers, so it has no levels "
            "to be rounded to (--quantize, PNG and TIFF need them)"
        )
    return maps


def round_to_levels(image: NDArray[np.float32], case: Case) -> NDArray[np.float32]:
    """An image (C, *spatial) in [0, 1] rounded towards the case's own, in [0, 1] again.

    Raises:
        UserError: the case's file has no levels.
    """
    return from_units(to_levels(image, case), require_levels(case))


def to_levels(image: NDArray[np.float32], case: Case) -> NDArray[np.float64]:
    """The same as the file's own whole numbers (C, *spatial).

    Raises:
        UserError: the case's file has no levels.
    """
    maps = require_levels(case)
    pairs = zip(image, case.image, maps, strict=True)
    return np.stack([_towards(own, clean, scale) for own, clean, scale in pairs])


def to_units(image: NDArray[np.float32], maps: tuple[Intensity, ...]) -> NDArray[np.float64]:
    """An image (C, *spatial) in [0, 1] in the file's units, unrounded."""
    return np.stack([_unscaled(pixels, scale) for pixels, scale in zip(image, maps, strict=True)])


def from_units(values: NDArray[np.float64], maps: tuple[Intensity, ...]) -> NDArray[np.float32]:
    """Values (C, *spatial) in the file's units as an image in [0, 1]."""
    scaled = [
        (channel.astype(np.float64) - scale.low) / (scale.high - scale.low)
        for channel, scale in zip(values, maps, strict=True)
    ]
    image: NDArray[np.float32] = np.clip(np.stack(scaled), 0.0, 1.0).astype(np.float32)
    return image


def _towards(
    pixels: NDArray[np.float32], clean: NDArray[np.float32], scale: Intensity
) -> NDArray[np.float64]:
    """Pixels of one channel on its levels, each rounded towards its clean value."""
    ends = sorted((scale.low, scale.high))
    lowest, highest = np.ceil(ends[0]), np.floor(ends[1])
    value, origin = (_snapped(_unscaled(some, scale), scale) for some in (pixels, clean))
    rounded = np.where(value >= origin, np.floor(value), np.ceil(value))
    on_the_way = (rounded - origin) * (value - origin) >= 0
    return np.clip(np.where(on_the_way, rounded, np.rint(origin)), lowest, highest)


def _unscaled(pixels: NDArray[np.float32], scale: Intensity) -> NDArray[np.float64]:
    return scale.low + pixels.astype(np.float64) * (scale.high - scale.low)


def _snapped(values: NDArray[np.float64], scale: Intensity) -> NDArray[np.float64]:
    """Values that are a level but for their fp32 rounding, as that level."""
    level = np.rint(values)
    near = np.abs(values - level) <= _FP32 * abs(scale.high - scale.low)
    return np.where(near, level, values)
