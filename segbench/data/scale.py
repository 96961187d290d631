"""Which of a picture's numbers become 0 and 1: all it can hold, its bits, or a range."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity
from segbench.errors import UserError

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")


@dataclass(frozen=True)
class Scale:
    """How numbers become [0, 1].

    Attributes:
        ends: the numbers that become 0 and 1, what lies outside being clipped; None for the file's.
        bits: how many bits count in whole numbers, more being refused; 0 for the file's own.
    """

    ends: tuple[float, float] | None = None
    bits: int = 0

    def __post_init__(self) -> None:
        if self.bits and not 1 <= self.bits <= 16:
            raise UserError(f"bits={self.bits} is not a depth of pixels; expected 1 to 16")
        if self.bits and self.ends:
            raise UserError("range= and bits= say the same thing twice; leave one out")

    def intensity(self, bits: int | None, white: int = 0) -> Intensity:
        """The map of a file whose numbers have so many bits, None for floating point.

        ``white`` is the greatest of them, where it is not that of the bits.
        """
        if self.ends:
            return Intensity(*self.ends, bits)
        depth = self.bits or bits or 8
        own = 2**depth - 1 if self.bits or not white else white
        return Intensity(0.0, float(own), depth)


OWN_SCALE = Scale()


def parse_range(text: str, option: str) -> tuple[float, float] | None:
    """``"-1000..400"`` to its ends; "" to None.

    Raises:
        UserError: not two numbers, the first below the second.
    """
    if not text:
        return None
    match = _RANGE.fullmatch(text)
    ends = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not ends[0] < ends[1] < math.inf:
        raise UserError(
            f"{option}={text!r} is not a range; expected LOW..HIGH such as 0..4095, the lower first"
        )
    return ends


def to_unit(values: NDArray[np.number], scale: Intensity) -> NDArray[np.float32]:
    """Numbers in a file's units to [0, 1], clipped."""
    if scale.low == 0 and values.dtype in (
        np.uint8,
        np.uint16,
    ):  # the same numbers, in half the time
        unit: NDArray[np.float32] = np.minimum(
            values.astype(np.float32) / np.float32(scale.high), 1
        )
        return unit
    wide = values.astype(np.float64)
    wide -= scale.low  # in place: a volume is large
    wide /= scale.high - scale.low
    return np.clip(wide, 0, 1, out=wide).astype(np.float32)
