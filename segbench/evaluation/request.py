"""What is asked for: cases of a data set, how to compute, and who is told what happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from segbench.api import Dataset, Entry
from segbench.engine.precision import Policy
from segbench.evaluation.grid import Cell, take_cases


@dataclass(frozen=True)
class DataSource:
    """A data set with what identifies it: its spec text, split and the cases taken."""

    spec: str
    dataset: Dataset
    split: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Options:
    """How to compute; nothing here changes a result but ``precision`` and ``boundary``.

    Attributes:
        batch_size: cases per batch, None to choose by measured memory.
        quantize: whether images rounded to their file's levels are scored too.
        save_adversarial: whether the images are kept.
        fresh: whether everything is computed anew, whatever is stored.
        allow_trained_cases: whether it is wanted that networks are attacked on their training data.
    """

    precision: Policy = "auto"
    device: str | None = None
    batch_size: int | None = None
    boundary: bool = False
    quantize: bool = False
    save_adversarial: bool = False
    fresh: bool = False
    allow_trained_cases: bool = False


class Listener(Protocol):
    """Told what happens; the command line shows it."""

    def model(self, name: str, cells: int, cases: int) -> None:
        """A model's cells begin, each on so many cases."""
        ...

    def cell(self, model: str, cell: Cell) -> None:
        """A cell begins."""
        ...

    def busy(self, what: str) -> None:
        """Work goes on before a case can be there: an epoch of a fit, images of a source."""
        ...

    def cases(self, computed: int, found: int) -> None:
        """Cases of the cell are there: computed now, or found in the store."""
        ...

    def warn(self, sentence: str) -> None:
        """Something the user must know; the run goes on."""
        ...


def select_data(spec: str, dataset: Dataset, split: str, limit: int | None) -> DataSource:
    """The cases of a split, at most ``limit`` of them, evenly spread."""
    return DataSource(spec, dataset, split, take_cases(dataset.entries(split), limit))
