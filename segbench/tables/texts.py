"""Columns of text in tables: stored once a name, however many rows bear it.

Hundreds of thousands of rows repeat a few names. As categories a name is a small number, and
grouping by it takes no comparison of texts; ``stack`` keeps it so where frames are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import Categorical, CategoricalDtype, DataFrame, Series, concat
from pandas.api.types import is_numeric_dtype, union_categoricals

from segbench.metrics.numbering import dense, first_of, number_of

_NAMED = 3  # of a list that may be as long as the tables; they have a column for it


def compact(frame: DataFrame) -> DataFrame:
    """The same frame with its texts as categories, in alphabetical order."""
    texts = {
        str(name): column.astype("category")
        for name, column in frame.items()
        if not is_numeric_dtype(column) and not isinstance(column.dtype, CategoricalDtype)
    }
    return frame.assign(**texts) if texts else frame


def stack(frames: Sequence[DataFrame]) -> DataFrame:
    """The rows of several frames with the same columns, numbered anew; categories stay such."""
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    if len(frames) == 1:
        return frames[0].reset_index(drop=True)
    return DataFrame({name: _stacked([frame[name] for frame in frames]) for name in frames[0]})


def _stacked(parts: Sequence[Series[Any]]) -> Any:
    """The values of several columns, one after the other."""
    dtype = parts[0].dtype
    if any(isinstance(part.dtype, CategoricalDtype) for part in parts):
        if (shared := _shared(parts)) is not None:
            codes = np.concatenate([part.cat.codes.to_numpy() for part in parts])
            return Categorical.from_codes(codes, dtype=shared)
        return union_categoricals([part.astype("category") for part in parts], sort_categories=True)
    if isinstance(dtype, np.dtype) and all(part.dtype == dtype for part in parts):
        return np.concatenate([part.to_numpy() for part in parts])
    return concat(parts, ignore_index=True)


def _shared(parts: Sequence[Series[Any]]) -> CategoricalDtype[Any] | None:
    """The categories of all, where these are the same and in order."""
    first = parts[0].dtype
    if not isinstance(first, CategoricalDtype) or not first.categories.is_monotonic_increasing:
        return None
    rest = (part.dtype for part in parts[1:])
    alike = all(
        isinstance(own, CategoricalDtype) and own.categories.equals(first.categories)
        for own in rest
    )
    return first if alike else None


def by_key(rows: DataFrame, keys: list[str], make: Callable[..., str]) -> Series[Any]:
    """A column of texts that are made of others', once for every combination that is there."""
    number = number_of(rows, keys)
    made = [make(*line) for line in _lines(rows, keys, number)]
    names = sorted(set(made))
    places = {name: place for place, name in enumerate(names)}
    smallest = np.min_scalar_type(-len(names))
    codes = np.array([places[name] for name in made], smallest)[number]
    dtype = CategoricalDtype(names)
    return Series(Categorical.from_codes(codes, dtype=dtype), index=rows.index)


def distinct(frame: DataFrame, keys: list[str]) -> list[tuple[Any, ...]]:
    """Every combination of texts and numbers that is there, once, in order."""
    return [*_lines(frame, keys, number_of(frame, keys))]


def _lines(
    frame: DataFrame, keys: list[str], number: NDArray[np.int64]
) -> Iterator[tuple[Any, ...]]:
    """The keys of the first row of each number."""
    first = first_of(number)
    return zip(*(frame[key].iloc[first].tolist() for key in keys), strict=True)


def budgets_of(frame: DataFrame) -> list[tuple[str, float]]:
    """(kind, value) of every budget in a frame, once."""
    return distinct(frame, ["budget_kind", "budget"])


def tidy(frame: DataFrame) -> DataFrame:
    """The same frame without categories that no row bears."""
    texts = {
        str(name): column.cat.remove_unused_categories()
        for name, column in frame.select_dtypes("category").items()
        if not np.bincount(column.cat.codes + 1, minlength=len(column.cat.categories) + 1)[1:].all()
    }
    return frame.assign(**texts) if texts else frame


def plain_texts(frame: DataFrame) -> DataFrame:
    """The same frame with its categories as texts again, as readers of small tables expect."""
    texts = {
        str(name): column.astype("str")
        for name, column in frame.items()
        if isinstance(column.dtype, CategoricalDtype)
    }
    return frame.assign(**texts) if texts else frame.copy()


def join_words(number: NDArray[np.int64], column: Series[Any]) -> Categorical[Any]:
    """Of each number, all of which from 0 up are there, every word that its rows bear, sorted.

    Args:
        number: (N,).
        column: N texts, of which some may be several words.
    """
    texts = column.astype("category").cat
    names = [str(name) for name in texts.categories]
    keys = number * len(names) + texts.codes.to_numpy(np.int64)
    of, name = np.divmod(dense(keys, (int(number.max(initial=-1)) + 1) * len(names))[1], len(names))
    start = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
    if len(start) == len(of):
        return Categorical.from_codes(name, dtype=CategoricalDtype(names))
    join = words if column.name == "marks" else phrases
    known: dict[bytes, str] = {}  # what many numbers bear is joined once
    said = []
    for first, stop in pairwise([*start.tolist(), len(of)]):
        own = name[first:stop]
        key = own.tobytes()
        if key not in known:
            known[key] = join(names[place] for place in own.tolist())
        said.append(known[key])
    return Categorical(said, dtype=CategoricalDtype(sorted(set(said))))


def phrases(texts: Iterable[str]) -> str:
    """What ``a + b`` and the like name, each once."""
    return " + ".join(sorted({phrase for text in texts for phrase in text.split(" + ")}))


def words(texts: Iterable[str]) -> str:
    """The words of all texts, each once."""
    return " ".join(sorted({word for text in texts for word in text.split()}))


def few(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
