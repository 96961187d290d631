"""Cases of a data set by their content, since names change and kept images do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.data.file_dataset import FileDataset
from segbench.errors import UserError
from segbench.store.runs import read_runs

if TYPE_CHECKING:
    from segbench.api import Case, Dataset, Entry
    from segbench.store.workspace import Workspace


class Contents:
    """Finds the cases of one data set that hold what an image was made of.

    What runs have called them is tried first; only for content that lies under none of these names
    is every case read, once.
    """

    def __init__(self, workspace: Workspace, spec: str, dataset: Dataset) -> None:
        self.dataset = dataset
        self._asked: dict[
            str, dict[str, None]
        ] = {}  # content -> names, as runs have asked for them
        self._read: dict[str, list[str]] | None = None
        for record in read_runs(workspace, []):
            for asked in record.asked:
                if asked.dataset == spec:
                    for case in asked.cases:
                        self._asked.setdefault(case.sha256, {})[case.case_id] = None

    def find(self, content: str, case_id: str) -> Iterator[Case]:
        """Every case of that content; it was called ``case_id`` when its image was made."""
        found = False
        for name in dict.fromkeys([case_id, *self._asked.get(content, ())]):
            case = self.load(name)
            if case is not None and case.sha256 == content:
                found = True
                yield case
        if not found:
            yield from map(self.dataset.load, self._all().get(content, ()))

    def load(self, case_id: str) -> Case | None:
        """A case of the data set, None where it has none of that name."""
        try:
            return self.dataset.load(case_id)
        except UserError:
            return None

    def _all(self) -> dict[str, list[str]]:
        """Content -> names, of all cases that can be read."""
        if self._read is None:
            self._read = {}
            names = [e.case_id for split in self.dataset.splits for e in self._entries(split)]
            for name in dict.fromkeys(names):
                if case := self.load(name):
                    self._read.setdefault(case.sha256, []).append(name)
        return self._read

    def _entries(self, split: str) -> tuple[Entry, ...]:
        try:
            return tuple(self.dataset.entries(split))
        except UserError:
            return ()  # a split that it does not have


def image_files(dataset: Dataset, case: Case) -> tuple[Path, ...]:
    """The files of a case's image, as far as its data set says; () of one that was generated."""
    if isinstance(dataset, FileDataset):
        return dataset.image_files(case.case_id)
    return () if case.source is None else (case.source,)
