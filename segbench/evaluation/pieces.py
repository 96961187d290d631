"""Pieces of work: some cases of one cell of one network, which depend on nothing but themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from segbench.errors import MachineError, UserError

CASES_AT_ONCE = 8
"""Cases of a piece where several workers share a cell."""


@dataclass(frozen=True, eq=False)
class Piece:
    """What one worker takes at once.

    Attributes:
        model: the name that the network has in its run.
        cell: the cell's place in its grid.
        keys: of the cell's views; a worker that finds others must not go on.
        lacking: case id -> the places of the views that lack its rows, none where only its images
            are to be kept.
        fitted: whether what the cell needs is fitted once for all its cases, so that the piece is
            better left whole.
        shape: of the cases' images, (C, *spatial).
        images: the key under which the cell's images may be kept. Several networks may ask for
            those of one; two pieces of one key and case at once would make them twice.
        again: whether somebody was at it before; what he stored is there.
    """

    model: str
    cell: int
    keys: tuple[str, ...]
    lacking: Mapping[str, tuple[int, ...]]
    fitted: bool = False
    shape: tuple[int, ...] = ()
    images: str = ""
    again: bool = False

    @property
    def clean(self) -> bool:
        """Whether it is of the clean cell, which is the first of every grid."""
        return self.cell == 0

    @property
    def scores(self) -> int:
        """How many (case, view) pairs it will have stored."""
        return sum(map(len, self.lacking.values()))

    def cut(self, size: int) -> Iterator[Piece]:
        """The same work in pieces of at most so many cases."""
        names = list(self.lacking)
        for start in range(0, len(names), size):
            some = names[start : start + size]
            yield replace(self, lacking={name: self.lacking[name] for name in some})


@dataclass(frozen=True)
class Spent:
    """What a piece took, on the clock of whoever computed it.

    Attributes:
        place: the device, and on a processor the number of threads.
        seconds: of all of it, once the network was there and ready.
        ready: seconds until then; 0 where it was there already.
        made: images that were made, not found.
        making: seconds that took; their ``gradients``, and ``forwards`` passes.
    """

    place: str
    seconds: float
    ready: float = 0.0
    made: int = 0
    making: float = 0.0
    gradients: int = 0
    forwards: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a piece: every case that is in neither list has its rows in the store.

    Attributes:
        unreadable: (case id, why) of cases that could not be loaded.
        errors: (case id, why) of cases on which the attack, or the network, failed.
        fatal: why nothing of this network can be computed; then nothing else is said.
        spent: None where the piece did not come to its end.
    """

    piece: Piece
    unreadable: tuple[tuple[str, str], ...] = ()
    errors: tuple[tuple[str, UserError | MachineError], ...] = ()
    fatal: UserError | MachineError | None = None
    spent: Spent | None = None


@dataclass(frozen=True)
class Shard:
    """One part of several of the same grid, ``3/16``; all parts together are the whole.

    What belongs to a part depends on the grid alone, whatever is stored and whoever runs.

    Attributes:
        number: from 1 to ``of``.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, place: int) -> bool:
        """Whether the piece at that place of the whole grid is this part's."""
        return place % self.of == self.number - 1


def parse_shard(text: str) -> Shard:
    """``3/16``.

    Raises:
        UserError: it is no such text.
    """
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of) <= 10**6:
        return Shard(int(number), int(of))
    raise UserError(f"shard {text!r} is none; expected one such as 3/16, the third of sixteen")


def own_cases(
    groups: Sequence[Sequence[str]], cell: int, offset: int, shard: Shard | None, *, fitted: bool
) -> set[str]:
    """The cases of a cell that belong to a part of the grid.

    Args:
        groups: case ids, in groups of one shape.
        offset: moves the parts on, so that not every network begins with the first.
        fitted: whether the cell's cases are better left together.
    """
    if shard is None:
        return {name for group in groups for name in group}
    if fitted:
        return (
            own_cases(groups, cell, offset, None, fitted=True)
            if shard.has(cell + offset)
            else set()
        )
    pieces = [
        group[start : start + CASES_AT_ONCE]
        for group in groups
        for start in range(0, len(group), CASES_AT_ONCE)
    ]
    first = cell * len(pieces) + offset
    return {name for n, piece in enumerate(pieces, first) if shard.has(n) for name in piece}
