"""One case before it is loaded: where its files are and how they become arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity
from segbench.data.faults import BadFileError
from segbench.data.pairing import Pair

_MOST_STRUCTURES = 62  # a bit for each, in numbers of 64


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
    def pair_id(self) -> str:
        """The volume that a slice is of; else the same."""
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
        """The image file, the first where there are several."""
        ...

    @property
    def mask(self) -> Path:
        """The mask file, the first where there are several."""
        ...

    @property
    def roi(self) -> Path | None:
        """The file that ``valid`` is read from, where there is one."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it is read from."""
        ...

    def picture(self) -> Picture:
        """The image; raises BadFileError."""
        ...

    def raw_mask(self) -> NDArray[np.integer]:
        """The file's own mask values (*spatial) on the picture's grid; raises BadFileError."""
        ...

    def valid(self) -> NDArray[np.bool_] | None:
        """Which pixels (*spatial) count, None for all; raises BadFileError."""
        ...


@dataclass(frozen=True)
class PairSource:
    """A case of matched files; ``shape`` (C, *spatial) is what they are resized to."""

    pair: Pair
    group_id: str
    shape: tuple[int, ...]

    @property
    def case_id(self) -> str:
        """The pair's."""
        return self.pair.case_id

    @property
    def pair_id(self) -> str:
        """The same."""
        return self.pair.case_id

    @property
    def image(self) -> Path:
        """The first image file."""
        return self.pair.image

    @property
    def mask(self) -> Path:
        """The first mask file."""
        return self.pair.mask

    @property
    def roi(self) -> Path | None:
        """The mask of the valid region."""
        return self.pair.roi

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return self.pair.files


def structure_bits(
    masks: list[NDArray[np.integer]], paths: tuple[Path, ...]
) -> NDArray[np.integer]:
    """Masks of one structure each to one (*spatial), bit s being set where structure s is.

    Raises:
        BadFileError: a mask of more than one value besides 0, or more masks than have a bit.
    """
    kind = bit_type(len(masks), paths[0])
    bits = np.zeros(masks[0].shape, kind)
    for number, (mask, path) in enumerate(zip(masks, paths, strict=True)):
        values = np.unique(mask)
        if len(values[values != 0]) > 1:
            raise BadFileError(
                path, f"holds {len(values)} values; expected one structure, being 0 elsewhere"
            )
        bits |= (mask != 0).astype(kind) << kind.type(number)
    return bits


def bit_type(structures: int, path: Path) -> np.dtype[np.unsignedinteger[Any]]:
    """The least whole numbers, 16 bits or more, that have a bit for each of so many structures.

    Raises:
        BadFileError: there are none.
    """
    if structures > _MOST_STRUCTURES:
        raise BadFileError(
            path, f"is one of {structures} structures; at most {_MOST_STRUCTURES} are read"
        )
    return np.dtype(next(f"u{size}" for size in (2, 4, 8) if structures <= 8 * size))
