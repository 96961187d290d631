"""Rows by number: which combination of some columns each row is of, in whole arrays.

A name that is a category is a small number already, so a combination of names is a number too, and
finding equal ones takes no comparison of texts and no sorting, as long as there are few enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import CategoricalDtype, DataFrame, Series, factorize

Codes = NDArray[np.int64]
_FEW = 50_000_000  # combinations of which a table is kept
_GROWN = 4  # combinations for each row, from which on those that there are get numbered anew


def number_of(frame: DataFrame, keys: Sequence[str]) -> Codes:
    """The number of each row's combination of keys, in their order, from 0 up; (N,).

    Categories are ordered as they are, all else by value, as ``groupby(keys, observed=True)`` does
    it. A missing value is ordered last.
    """
    number, size = np.zeros(len(frame), np.int64), 1
    for key in keys:
        codes, count = _codes(frame[key])
        if count == 1:
            continue
        if size > 1 and size * count > max(_GROWN * len(frame), 1000):
            number, found = dense(number, size)
            size = len(found)
        number *= count
        number += codes
        size *= count
    return dense(number, size)[0]


def first_of(number: Codes) -> Codes:
    """The first row of each number, all of which from 0 up are there."""
    first = np.empty(int(number.max(initial=-1)) + 1, np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]  # of several the last one put there stays
    return first


def dense(keys: Codes, size: int) -> tuple[Codes, Codes]:
    """Of keys (N,) from 0 up to ``size`` the place of each among those that there are, and these.

    As ``numpy.unique`` with its inverse.
    """
    if size > max(_GROWN * len(keys), _FEW):
        found, places = np.unique(keys, return_inverse=True)
        return places, found
    there = np.zeros(size, bool)
    there[keys] = True
    found = np.flatnonzero(there)
    if len(found) == size:
        return keys, found
    places = np.empty(size, np.int32 if size < 2**31 else np.int64)
    places[found] = np.arange(len(found))
    return places[keys].astype(np.int64), found


def _codes(column: Series[Any]) -> tuple[NDArray[Any], int]:
    """The number of each value among all, and of how many."""
    if isinstance(column.dtype, CategoricalDtype):
        codes, count = column.cat.codes.to_numpy(), len(column.cat.categories)
    elif (near := _near_integers(column)) is not None:
        codes, found = near
        count = len(found)
    else:
        codes, values = factorize(column, sort=True)
        count = len(values)
    if len(codes) and codes.min() < 0:
        codes, count = np.where(codes < 0, count, codes), count + 1
    return codes, max(1, count)


def _near_integers(column: Series[Any]) -> tuple[Codes, Codes] | None:
    """``dense`` of integers none of which is far from another, such as seeds; else None."""
    if not isinstance(column.dtype, np.dtype) or column.dtype.kind != "i" or column.empty:
        return None
    values = column.to_numpy()
    least, span = int(values.min()), int(values.max()) - int(values.min()) + 1
    if span > _GROWN * len(values):
        return None
    return dense(values.astype(np.int64) - least, span)
