"""Many files of rows as the columns of one frame, in little more memory than the frame itself.

Arrow holds a text as a number of 32 bits; of a few hundred names 8 or 16 do. So files are taken a
few at a time, in the same memory of Arrow's, and columns are joined and sorted one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pandas import Categorical, CategoricalDtype, DataFrame

from segbench.metrics.numbering import first_of, number_of

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE = 100_000  # rows of Arrow tables

Array = NDArray[Any]


class _Column:
    """A column that grows; texts are numbers, and a list of the names they stand for."""

    def __init__(self) -> None:
        self._parts: list[Array] = []
        self._names: dict[str, int] | None = None

    def add(self, column: pa.ChunkedArray) -> None:
        import pyarrow as pa

        if not pa.types.is_dictionary(column.type):
            values = column.to_numpy()
            self._parts.append(values if values.base is None else np.array(values))
            return
        self._names = {} if self._names is None else self._names
        whole = column.unify_dictionaries().combine_chunks()
        for chunk in whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]:
            own = chunk.dictionary.to_pylist()
            codes = np.array([self._names.setdefault(name, len(self._names)) for name in own], int)
            narrow = codes.astype(np.min_scalar_type(-len(self._names) - 1))
            self._parts.append(narrow[chunk.indices.to_numpy()])

    def joined(self) -> Any:
        """All of it, once; names in alphabetical order."""
        values = np.concatenate(self._parts)
        self._parts.clear()
        if self._names is None:
            return values
        ordered = sorted(self._names)
        rank = np.empty(len(ordered), values.dtype)
        rank[[self._names[name] for name in ordered]] = np.arange(len(ordered))
        return Categorical.from_codes(rank[values], dtype=CategoricalDtype(ordered))


def gather(tables: Iterable[pa.Table]) -> DataFrame:
    """The rows of all tables, which have the same columns; texts as categories.

    There must be one table at least. Tables that only the iterable holds are freed on the way.
    """
    columns: dict[str, _Column] = {}
    for table in _batches(tables):
        for name in table.column_names:
            columns.setdefault(name, _Column()).add(table[name])
    return DataFrame({name: columns.pop(name).joined() for name in [*columns]}, copy=False)


def in_order(frame: DataFrame, by: Sequence[str], kept: NDArray[np.bool_]) -> DataFrame:
    """The rows that are kept, sorted by some columns and numbered anew; the frame is emptied."""
    number = number_of(frame, by)
    distinct = int(number.max(initial=-1)) + 1 == len(number)
    order = first_of(number) if distinct else np.argsort(number, kind="stable")
    order = order if kept.all() else order[kept[order]]
    taken = {str(name): frame.pop(str(name)).array.take(order) for name in [*frame]}
    return DataFrame(taken, copy=False)


def repeated(frame: DataFrame, keys: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows are like another in these columns, (N,)."""
    number = number_of(frame, keys)
    if not len(frame) or int(number.max()) + 1 == len(frame):
        return np.zeros(len(frame), bool)
    found: NDArray[np.bool_] = (np.bincount(number) > 1)[number]
    return found


def with_nothing(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """The frame with these columns in this order; those that it lacks are one column of NaN."""
    if [*frame] == [*names]:
        return frame
    nothing = np.full(len(frame), np.nan)
    columns = {name: frame[name].array if name in frame else nothing for name in names}
    return DataFrame(columns, copy=False)


def _batches(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Several small tables as one, so that a column of thousands of files is not of as many."""
    import pyarrow as pa

    waiting, rows = list[pa.Table](), 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        if rows >= _AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting.clear()
            rows = 0
    if waiting:
        yield pa.concat_tables(waiting)
    pa.default_memory_pool().release_unused()
