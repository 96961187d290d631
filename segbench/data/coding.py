"""What the values of a mask file mean: each value's class, or a refusal that names the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.data.faults import BadFileError
from segbench.errors import UserError

IGNORE_INDEX = -100  # torch's own, see api.BringsLoss
ALL_IGNORED = "holds nothing but the ignored value"
MAX_VALUES = 20  # more distinct gray values are a picture, not a coding
COLOUR = 1 << 24  # set in values that stand for a colour, see rasters.read_mask


@dataclass(frozen=True)
class Coding:
    """File values to classes.

    Attributes:
        names: K class names, background first.
        values: (file value, class) pairs.
        ignore: the file value that is neither trained on nor scored, if any.
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, int], ...]
    ignore: int | None = None

    @property
    def ignore_index(self) -> int | None:
        """What ``ignore`` becomes in masks."""
        return None if self.ignore is None else IGNORE_INDEX

    def encode(self, raw: NDArray[np.integer], mask: Path) -> NDArray[np.int64]:
        """File values (*spatial) -> classes 0..K-1 or IGNORE_INDEX.

        Raises:
            BadFileError: a value that the coding does not know.
        """
        present, inverse = _compact(raw)
        known = dict(self.values)
        if self.ignore is not None:
            known[self.ignore] = IGNORE_INDEX
        strange = [value for value in present.tolist() if value not in known]
        if strange:
            raise BadFileError(
                mask,
                f"holds the value {_listed(strange)}, expected only {_listed(sorted(known))}",
            )
        table = np.array([known[value] for value in present.tolist()], dtype=np.int64)
        return table[inverse]


def distinct(raw: NDArray[np.integer]) -> set[int]:
    """The values a mask holds."""
    if raw.dtype.itemsize <= 2 and raw.dtype.kind == "u":
        return set(np.flatnonzero(np.bincount(raw.ravel())).tolist())
    return set(np.unique(raw).tolist())


def infer_coding(values: Iterable[int], names: tuple[str, ...], ignore: int | None) -> Coding:
    """The coding of a data set whose masks hold ``values``.

    {0, 1} and {0, 255} are two classes; 0..K-1 are K classes; other values, twenty at most, become
    classes in sorted order and keep their value in the class name. ``names``, where given, name
    the classes and fix how many there are.

    Raises:
        UserError: fewer than two values, more than twenty, or names that do not fit.
    """
    found = sorted(set(values) - {ignore})
    coded = _coded(found, len(names))
    if len(coded) < 2:
        raise UserError(
            f"all masks hold only the value {_listed(found)}; at least two classes are needed"
        )
    if len(coded) > MAX_VALUES:
        raise UserError(
            f"the masks hold {len(coded)} distinct values ({_listed(coded)}), at most "
            f"{MAX_VALUES} classes are expected; are these masks, and stored without loss?"
        )
    if names and len(names) != len(coded):
        raise UserError(
            f"classes={'+'.join(names)} names {len(names)} classes, but the masks have "
            f"{len(coded)} (values {_listed(coded)})"
        )
    pairs = tuple((value, index) for index, value in enumerate(coded))
    return Coding(names or _default_names(coded), pairs, ignore)


def _coded(found: list[int], wanted: int) -> list[int]:
    """The file values of classes 0, 1, ...; some may be absent from the files."""
    if set(found) <= {0, 255} and 255 in found:
        return [0, 255]
    if found and wanted and min(found) >= 0 and max(found) < wanted:
        return list(range(wanted))
    if found == [1]:
        return [0, 1]
    return found


def _default_names(coded: list[int]) -> tuple[str, ...]:
    if coded in ([0, 1], [0, 255]):
        return ("background", "foreground")
    if coded == list(range(len(coded))):
        return ("background", *(f"class {value}" for value in coded[1:]))
    return tuple("background" if value == 0 else _value_name(value) for value in coded)


def _value_name(value: int) -> str:
    return f"colour #{value - COLOUR:06x}" if value >= COLOUR else f"value {value}"


def _listed(values: list[int]) -> str:
    shown = ", ".join(_value_name(v) if v >= COLOUR else str(v) for v in values[:8])
    return shown + (", ..." if len(values) > 8 else "")


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
