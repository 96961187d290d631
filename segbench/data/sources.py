"""One case before it is loaded: where its files are and how they become arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as read: float32 (C, *spatial) in [0, 1] and what is known about its pixels."""

    pixels: NDArray[np.float32]
    intensity: tuple[Intensity, ...] | None = None  # one per channel
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    depth: int | None = None


class Source(Protocol):
    """A case that can be read again and again, each time to the same arrays."""

    @property
    def case_id(self) -> str:
        """Unique in the data set."""
        ...

    @property
    def group_id(self) -> str:
        """The patient or volume."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of the picture."""
        ...

    @property
    def image(self) -> Path:
        """The image file."""
        ...

    @property
    def masks(self) -> tuple[Path, ...]:
        """The mask files."""
        ...

    def picture(self) -> Picture:
        """The image; raises BadFileError."""
        ...

    def raw_mask(self) -> NDArray[np.integer]:
        """The file's own mask values (*spatial) on the picture's grid; raises BadFileError."""
        ...
