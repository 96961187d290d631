"""Which cases of which cells have rows: what a run asks the store before it computes anything.

Whole columns and no object per row: a hundred thousand finished cells are a few arrays. Files never
change, so each is read once however many networks ask.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segbench.store import rowfile
from segbench.store.row_files import read_each
from segbench.store.rows import ON_REQUEST
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ["cell", "case_sha256", "run", *ON_REQUEST]
_SCORES = ["cell", "case_sha256", "class_id", "jaccard", "accuracy", "run"]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of several files, N in all; texts as numbers, under which they are named.

    Attributes:
        cell: of each row, (N,); ``case`` likewise.
        found: the other columns of ``_COLUMNS``, (N,) each.
    """

    cells: Mapping[str, int]
    cell: NDArray[np.integer[Any]]
    cases: Mapping[str, int]
    case: NDArray[np.integer[Any]]
    found: Mapping[str, NDArray[Any]]


class RowIndex:
    """The rows of a workspace as they are when asked for; remembers what it has read."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._files: dict[Path, pa.Table] = {}
        self._joined: tuple[tuple[Path, ...], _Rows] | None = None

    def finished(
        self,
        cells: Sequence[str],
        cases: Sequence[str],
        wanted: Mapping[str, Sequence[float]] | None = None,
        damaged: list[str] | None = None,
        runs: Collection[int] | None = None,
    ) -> NDArray[np.bool_]:
        """Whether each cell has rows of each case, (cells, cases); reads no scores.

        Args:
            cells: keys.
            cases: ``Case.sha256`` of each.
            wanted: of columns of ``ON_REQUEST`` the value for each case; rows that were measured at
                another one do not count. Of several runs that measured it the latest does.
            damaged: see ``read_each``.
            runs: whose rows count, by their numbers; None for those of all.

        Raises:
            UserError: a file there is not ours or is damaged, and ``damaged`` is None.
        """
        keys, contents = [*dict.fromkeys(cells)], [*dict.fromkeys(cases)]
        done = np.zeros((len(keys), len(contents)), bool)
        measured = {name: np.full(done.shape, math.nan) for name in wanted or {}}
        rows = self._rows({*keys}, damaged)
        row = _places(rows.cells, keys)[rows.cell]
        column = _places(rows.cases, contents)[rows.case]
        counts = True if runs is None else np.isin(rows.found["run"], [*runs])
        own = np.flatnonzero((row >= 0) & (column >= 0) & counts)
        done[row[own], column[own]] = True
        for name, found in measured.items():
            at = rows.found[name]
            there = own[~np.isnan(at[own])]
            there = there[np.argsort(rows.found["run"][there], kind="stable")]
            found[row[there], column[there]] = at[there]
        asked = np.ix_(_numbers(keys, cells), _numbers(contents, cases))
        answer: NDArray[np.bool_] = done[asked]
        for name, values in (wanted or {}).items():
            answer &= measured[name][asked] == np.asarray(values, np.float64)
        return answer

    def case_means(self, cell: str) -> dict[str, float]:
        """``Case.sha256`` -> class mean of a cell's Jaccard; accuracy without foreground.

        Of several rows those of the latest run. Damaged files are left out.
        """
        files = self._read({cell}, [])
        holding = [path for path, table in files.items() if _has(table["cell"], cell)]
        scores: dict[str, dict[int, tuple[int, float, float]]] = {}
        for path in holding:
            table = rowfile.read_if_there(path, _SCORES)
            if table is None:
                return self.case_means(cell)  # gathered into another file just now
            own = table.filter(_equal(table["cell"], cell)).drop_columns(["cell"])
            for case, label, jaccard, accuracy, run in zip(*own.to_pydict().values(), strict=True):
                known = scores.setdefault(case, {})
                if run >= known.get(label, (0, 0.0, 0.0))[0]:
                    known[label] = run, jaccard, accuracy
        found = {}
        for case, by_class in scores.items():
            jaccards = [jaccard for _, jaccard, _ in by_class.values() if not math.isnan(jaccard)]
            found[case] = fmean(jaccards or [accuracy for *_, accuracy in by_class.values()])
        return found

    def _rows(self, cells: Collection[str], damaged: list[str] | None) -> _Rows:
        """The rows of those files together; joined once while the files are the same."""
        files = self._read(cells, damaged)
        paths = tuple(files)
        if self._joined is None or self._joined[0] != paths:
            self._joined = None  # of two there is not always room
            self._joined = paths, _join(files.values())
        return self._joined[1]

    def _read(self, cells: Collection[str], damaged: list[str] | None) -> dict[Path, pa.Table]:
        """``_COLUMNS`` of the files that may hold those cells; texts are dictionaries."""

        def read(path: Path) -> pa.Table | None:
            known = self._files.get(path)
            if known is None:
                known = rowfile.read_if_there(path, _COLUMNS, categories=True)
            return known

        found = dict(read_each(self._workspace, read, damaged, cells))
        self._files |= found
        return found


def _join(tables: Iterable[pa.Table]) -> _Rows:
    from segbench.store.columns import gather

    rows = gather([rowfile.schema(categories=True).empty_table().select(_COLUMNS), *tables])
    texts = (rows[name].cat for name in ("cell", "case_sha256"))
    numbers = [({n: i for i, n in enumerate(t.categories.tolist())}, t.codes) for t in texts]
    (cells, cell), (cases, case) = numbers
    found = {name: rows[name].to_numpy() for name in ("run", *ON_REQUEST)}
    return _Rows(cells, cell.to_numpy(), cases, case.to_numpy(), found)


def _places(numbers: Mapping[str, int], names: Sequence[str]) -> NDArray[np.int64]:
    """Of each number the place of its text among the names, -1 for none."""
    found = np.full(len(numbers), -1, np.int64)
    for place, name in enumerate(names):
        number = numbers.get(name)
        if number is not None:
            found[number] = place
    return found


def _numbers(names: Sequence[str], texts: Sequence[str]) -> NDArray[np.int64]:
    """Of each text its place among the names, all of which are different."""
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[text] for text in texts], np.int64)


def _has(column: pa.ChunkedArray, text: str) -> bool:
    import pyarrow.compute as pc

    return any(pc.index(chunk.dictionary, text).as_py() >= 0 for chunk in column.chunks)


def _equal(column: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.equal(column, text)
