"""What layouts that hold volumes have in common: a grid, a window, a folder, and who is where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from segbench.data.faults import Faults
from segbench.data.file_dataset import FileDataset
from segbench.data.pairing import Pair
from segbench.data.regrid import Regrid, ScoreOn, parse_spacing
from segbench.data.roots import require_root
from segbench.data.scale import parse_range
from segbench.data.sources import Source
from segbench.data.splits import SplitTable, read_split_table, split_pairs
from segbench.data.window import Window


class VolumeLayout(FileDataset):
    """Options that mean the same in each; subclasses are frozen dataclasses that have them.

    Attributes:
        name: what the layout is registered as.
    """

    name: ClassVar[str]
    size: int
    lower: float
    upper: float
    window: str
    spacing: str
    score_on: ScoreOn
    test_fraction: float
    split: str
    split_seed: int
    root: Path | None

    @property
    def splits_by_rule(self) -> bool:
        """Whether nobody has said who is in which split."""
        return not self.split

    @property
    def left_out(self) -> Sequence[str]:
        """What was found and is no case."""
        return tuple(self._faults.notes)

    @property
    def regrid(self) -> Regrid:
        """``size``, or ``spacing``."""
        return Regrid(self.size, parse_spacing(self.spacing), self.score_on)

    @property
    def clipping(self) -> Window | None:
        """What clips the numbers of the files; None where nothing does, as in pictures."""
        return self._window if self._ends or self._holds_volumes else None

    @property
    def _holds_volumes(self) -> bool:
        """Where pictures may lie there too, a subclass looks."""
        return True

    @property
    def _ends(self) -> tuple[float, float] | None:
        return parse_range(self.window, "window")

    @property
    def _window(self) -> Window:
        return Window(self.lower, self.upper, self._ends)

    @cached_property
    def _folder(self) -> Path:
        return require_root(self.name, self.root)

    @cached_property
    def _faults(self) -> Faults:
        return Faults(self._folder)

    @cached_property
    def _split_table(self) -> SplitTable | None:
        return read_split_table(self._folder / self.split) if self.split else None

    def _divided(
        self, sources: Sequence[Source], pairs: Sequence[Pair], group_of: Callable[[str], str]
    ) -> dict[str, list[Source]]:
        """Split -> its cases, by the pairs themselves, the table, or the seeded rule."""
        rule = self._split_table, self.test_fraction, self.split_seed
        splits = split_pairs(pairs, group_of, self._folder, *rule)
        split_of = {case: name for name, cases in splits.items() for case in cases}
        return by_split(sources, split_of, splits)


def by_split(
    sources: Sequence[Source],
    split_of: Mapping[str, str],
    names: Sequence[str] | Mapping[str, object],
) -> dict[str, list[Source]]:
    """Split -> its cases; ``split_of`` tells of the volume, or pair, that a case is of."""
    found: dict[str, list[Source]] = {name: [] for name in names}
    for source in sources:
        found.setdefault(split_of[source.pair_id], []).append(source)
    return found
