"""The values of all masks of a data set, and which files hold each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segbench.data.coding import COLOUR
from segbench.data.faults import short_name
from segbench.errors import UserError

MAX_VALUES = 20  # more distinct gray values are a picture, not a coding
NAMED = 20  # files of one value that a sentence names


@dataclass(frozen=True)
class MaskValues:
    """What one mask holds: pixels of each value, and the palette's index of each, if it has one."""

    path: Path
    counts: Mapping[int, int]
    indices: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Survey:
    """All masks, with the number by which people know each value: itself, or its palette index."""

    masks: Sequence[MaskValues]
    numbers: Mapping[int, int]
    note: str = ""

    @property
    def found(self) -> list[int]:
        """The numbers that occur, sorted."""
        return sorted(self.numbers.values())

    def where(self, number: int) -> str:
        """Which files hold it, in how many pixels."""
        value = self.value(number)
        holding = [
            f"{short_name(mask.path)} ({mask.counts[value]} "
            f"pixel{'s' if mask.counts[value] > 1 else ''})"
            for mask in self.masks
            if value in mask.counts
        ]
        more = f" and {len(holding) - NAMED} more" if len(holding) > NAMED else ""
        return ", ".join(holding[:NAMED]) + more

    def files(self, number: int) -> int:
        """How many files hold it."""
        return sum(self.value(number) in mask.counts for mask in self.masks)

    def value(self, number: int) -> int:
        """The value of a number; of one that does not occur, the number."""
        return next((v for v, n in self.numbers.items() if n == number), number)


def survey_masks(masks: Sequence[MaskValues]) -> Survey:
    """The values of all masks, by their palettes' indices where all palettes agree.

    Raises:
        UserError: some masks have colours by a palette, and others bare numbers.
    """
    values = {value for mask in masks for value in mask.counts}
    by_palette = [mask for mask in masks if mask.indices]
    if not any(value >= COLOUR for mask in by_palette for value in mask.indices):
        return Survey(masks, {value: value for value in values})
    bare = [m for m in masks if not m.indices and any(0 < v < COLOUR for v in m.counts)]
    if bare:
        raise UserError(
            f"{short_name(by_palette[0].path)} holds colours by a palette and "
            f"{short_name(bare[0].path)} bare numbers; save all masks in one way"
        )
    pairs = {pair for mask in by_palette for pair in mask.indices.items()}
    numbers = dict(pairs)
    if len(pairs) == len(numbers) == len(set(numbers.values())) and values <= numbers.keys():
        return Survey(masks, numbers)
    note = "the palettes of the masks differ, so their colours are the classes"
    return Survey(masks, {value: value for value in values}, note)
