"""The volumes read last, so that the slices of one volume read its file once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray

Record = tuple[NDArray[Any], Any]


class VolumeCache:
    """Arrays by file, the least recently used leaving first; the newest always stays.

    A file that has changed on disk is read again. The arrays are made read-only.
    """

    def __init__(self, max_bytes: int = 256 << 20) -> None:
        self._max_bytes = max_bytes
        self._records: OrderedDict[Hashable, Record] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path, settings: Hashable, read: Callable[[], Record]) -> Record:
        """The array of a file read under some settings, and what is kept beside it."""
        state = path.stat()
        key = (path, settings, state.st_mtime_ns, state.st_size)
        with self._lock:
            if key in self._records:
                self._records.move_to_end(key)
                return self._records[key]
        record = read()
        record[0].setflags(write=False)
        with self._lock:
            self._records[key] = record
            while len(self._records) > 1 and self._total() > self._max_bytes:
                self._records.popitem(last=False)
        return record

    def _total(self) -> int:
        return sum(array.nbytes for array, _ in self._records.values())


VOLUMES = VolumeCache()
