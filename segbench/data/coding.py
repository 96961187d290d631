"""What the values of a mask file mean: each value's class, or a refusal that names the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.data.faults import BadFileError

IGNORE_INDEX = -100  # torch's own, see api.BringsLoss
NOTHING_VALID = "marks nothing as valid"
COLOUR = 1 << 24  # set in values that stand for a colour, see rasters.read_mask


@dataclass(frozen=True)
class Coding:
    """File values to labels.

    Attributes:
        names: K class names, background first.
        values: (file value, label) pairs.
        ignore: the file values that are neither trained on nor scored.
        regions: for structures that may overlap, the labels that each of names[1:] is made of; ()
            where labels are the classes themselves.
        outside: the ignored values that are outside the valid region, and so not attacked either.
        notes: what was found out, in sentences for the user.
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, int], ...]
    ignore: tuple[int, ...] = ()
    regions: tuple[tuple[int, ...], ...] = ()
    outside: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ignore_index(self) -> int | None:
        """What ``ignore`` becomes in masks."""
        return IGNORE_INDEX if self.ignore else None

    def encode(self, raw: NDArray[np.integer], mask: Path) -> NDArray[np.int64]:
        """File values (*spatial) -> labels 0, 1, ... or IGNORE_INDEX.

        Raises:
            BadFileError: a value that the coding does not know.
        """
        present, inverse = _compact(raw)
        known = dict(self.values) | dict.fromkeys(self.ignore, IGNORE_INDEX)
        strange = [value for value in present.tolist() if value not in known]
        if strange:
            raise BadFileError(
                mask,
                f"holds the value {list_values(strange)}, expected only "
                f"{list_values(sorted(known))}",
            )
        table = np.array([known[value] for value in present.tolist()], dtype=np.int64)
        return table[inverse]


def all_ignored(values: Iterable[int], *, within: bool) -> str:
    """What is wrong with a mask of ignored ``values`` alone, or of such ``within`` its region."""
    said = f"holds nothing but the ignored value {list_values(values)}"
    return f"{said} within its valid region" if within else said


def count_values(raw: NDArray[np.integer]) -> dict[int, int]:
    """How many pixels of a mask hold each of its values."""
    if raw.dtype.itemsize <= 2 and raw.dtype.kind == "u":
        counts = np.bincount(raw.ravel())
        values = np.flatnonzero(counts)
        return dict(zip(values.tolist(), counts[values].tolist(), strict=True))
    values, counts = np.unique(raw, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def name_value(value: int) -> str:
    """A mask value in words: its number, or its colour."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)


def list_values(values: Iterable[int]) -> str:
    """Several of them, no more than eight."""
    named = [name_value(value) for value in values]
    return ", ".join(named[:8]) + (", ..." if len(named) > 8 else "")


def _compact(raw: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.intp]]:
    """Distinct values, and where in them each pixel's is; a table where np.unique would sort."""
    if raw.dtype.kind == "u" and raw.dtype.itemsize <= 2:
        counts = np.bincount(raw.ravel())
        present = np.flatnonzero(counts)
        position = np.zeros(counts.size, dtype=np.intp)
        position[present] = np.arange(present.size)
        return present, position[raw]
    present, inverse = np.unique(raw, return_inverse=True)
    return present, inverse.reshape(raw.shape)
