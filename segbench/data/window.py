"""Which of a volume's values become 0 and 1: fixed ones, or percentiles of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity
from segbench.data.faults import BadFileError
from segbench.data.scale import to_unit
from segbench.errors import UserError

_EMPTY = 0.5  # of a volume's voxels, that hold its least value: the rest is its foreground


@dataclass(frozen=True)
class Window:
    """The values that become 0 and 1; what lies outside is clipped.

    Attributes:
        lower: percentile of a volume's voxels, per channel, that becomes 0; those of its foreground
            where more than half of them hold the least value. 0 is the least value of all.
        upper: percentile that becomes 1; 100 is the greatest value.
        ends: the values themselves, the same for every volume.
    """

    lower: float = 0.5
    upper: float = 99.5
    ends: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lower < self.upper <= 100:
            raise UserError(
                f"lower={self.lower:g}, upper={self.upper:g} are not percentiles; "
                "expected 0 <= lower < upper <= 100"
            )

    @property
    def clips_nothing(self) -> bool:
        """Whether every value of every volume lies within."""
        return self.ends is None and self.lower == 0 and self.upper == 100

    @property
    def rule(self) -> str:
        """How intensities are scaled, in words."""
        if self.ends:
            return f"intensities from {self.ends[0]:g} to {self.ends[1]:g} become 0 to 1"
        if self.clips_nothing:
            return "intensities scaled per volume from its least to its greatest value"
        return (
            f"intensities scaled per volume from the percentiles {self.lower:g} and {self.upper:g} "
            "(of the foreground, where more than half of its voxels hold the least value)"
        )

    def apply(
        self, voxels: NDArray[Any], bits: int | None, path: Path
    ) -> tuple[NDArray[np.float32], tuple[Intensity, ...]]:
        """Voxels (C, *spatial) to [0, 1], and the map back of each channel.

        Raises:
            BadFileError: a channel of one value only, which says nothing of its scale.
        """
        scaled = np.empty(voxels.shape, dtype=np.float32)
        maps = []
        for channel, values in enumerate(voxels):
            low, high = self.ends or self._percentiles(values, path)
            maps.append(Intensity(low, high, bits))
            scaled[channel] = to_unit(values, maps[-1])
        return scaled, tuple(maps)

    def _percentiles(self, values: NDArray[Any], path: Path) -> tuple[float, float]:
        least, greatest = float(values.min()), float(values.max())
        if least == greatest:
            raise BadFileError(
                path, f"holds nothing but the value {least:g}; its scale must be said (window=)"
            )
        foreground = values[values > least]
        known = foreground if foreground.size < (1 - _EMPTY) * values.size else values
        low, high = np.percentile(known, [self.lower, self.upper]).tolist()
        low = low if self.lower else least  # of all: nothing is below it, the background neither
        return (low, high) if high > low else (least, greatest)
