"""Which cases of which cells have rows: what a run asks the store before it computes anything.

Whole columns and no object per row: a hundred thousand finished cells are a few arrays. Files never
change, so each is read once however many networks ask.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segbench.store import rowfile
from segbench.store.rows import ON_REQUEST, read_each
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ["cell", "case_sha256", "run", *ON_REQUEST]
_SCORES = ["cell", "case_sha256", "class_id", "jaccard", "accuracy", "run"]


class RowIndex:
    """The rows of a workspace as they are when asked for; remembers what it has read."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._files: dict[Path, pa.Table] = {}

    def finished(
        self,
        cells: Sequence[str],
        cases: Sequence[str],
        wanted: Mapping[str, Sequence[float]] | None = None,
        damaged: list[str] | None = None,
    ) -> NDArray[np.bool_]:
        """Whether each cell has rows of each case, (cells, cases); reads no scores.

        Args:
            cells: keys.
            cases: ``Case.sha256`` of each.
            wanted: of columns of ``ON_REQUEST`` the value for each case; rows that were measured at
                another one do not count. Of several runs that measured it the latest does.
            damaged: see ``read_each``.

        Raises:
            UserError: a file there is not ours or is damaged, and ``damaged`` is None.
        """
        import pyarrow as pa

        contents = [*dict.fromkeys(cases)]
        done = np.zeros((len(cells), len(contents)), bool)
        measured = {name: np.full(done.shape, math.nan) for name in wanted or {}}
        tables = self._read({*cells}, damaged).values()
        if tables:
            rows = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
            row = _places(rows["cell"], pa.array(cells, pa.string()))
            column = _places(rows["case_sha256"], pa.array(contents, pa.string()))
            own = np.flatnonzero((row >= 0) & (column >= 0))
            done[row[own], column[own]] = True
            for name, found in measured.items():
                values = rows[name].to_numpy()[own]
                there = own[~np.isnan(values)]
                there = there[np.argsort(rows["run"].to_numpy()[there], kind="stable")]
                found[row[there], column[there]] = rows[name].to_numpy()[there]
        place = {content: number for number, content in enumerate(contents)}
        columns = [place[content] for content in cases]
        answer: NDArray[np.bool_] = done[:, columns]
        for name, values in (wanted or {}).items():
            answer &= measured[name][:, columns] == np.asarray(values, np.float64)
        return answer

    def case_means(self, cell: str) -> dict[str, float]:
        """``Case.sha256`` -> class mean of a cell's Jaccard; accuracy without foreground.

        Of several rows those of the latest run. Damaged files are left out.
        """
        files = self._read({cell}, [])
        holding = [path for path, table in files.items() if cell in _names(table["cell"])]
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


def _places(column: pa.ChunkedArray, names: pa.Array) -> NDArray[np.int64]:
    """Of each row the place of its text among the names, -1 for none."""
    import pyarrow.compute as pc

    texts = column.combine_chunks()
    place = pc.index_in(texts.dictionary, value_set=names).fill_null(-1).to_numpy()
    found: NDArray[np.int64] = place.astype(np.int64)[texts.indices.to_numpy()]
    return found


def _names(column: pa.ChunkedArray) -> set[str]:
    return {text for chunk in column.chunks for text in chunk.dictionary.to_pylist()}


def _equal(column: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.equal(column, text)
