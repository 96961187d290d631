"""The cases of a run, in memory as far as is reasonable, and the next shard read ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from segbench.api import Case, Dataset, Entry
from segbench.errors import UserError
from segbench.plugins.dataset import load_case

_KEEP_BYTES = 2**30
_PIXEL_BYTES = 8  # int64 labels
_SAMPLE_BYTES = 4  # float32 images


class CaseCache:
    """Shards of cases. All of them stay if they are small; else one, and the next is read ahead.

    Every cell of a grid goes through the shards in the same order, so what follows is known.

    Attributes:
        shards: the entries, as they were given.
        unreadable: case id -> why it could not be loaded; shards come without such cases.
    """

    def __init__(self, dataset: Dataset, shards: Sequence[Sequence[Entry]]) -> None:
        self._dataset, self.shards = dataset, shards
        self.unreadable: dict[str, str] = {}
        self._loaded: dict[int, Future[list[Case]]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="segbench-reader")
        self._all = sum(_bytes(e) for shard in shards for e in shard) <= _KEEP_BYTES

    def load(self, shard: int) -> list[Case]:
        """The cases of a shard that can be read; the one after it is being read meanwhile."""
        following = (shard + 1) % len(self.shards)
        for wanted in (shard, following):
            if wanted not in self._loaded:
                self._loaded[wanted] = self._reader.submit(self._read, wanted)
        if not self._all:
            for other in self._loaded.keys() - {shard, following}:
                del self._loaded[other]
        return self._loaded[shard].result()

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(cancel_futures=True)

    def _read(self, shard: int) -> list[Case]:
        cases = []
        for entry in self.shards[shard]:
            try:
                cases.append(load_case(self._dataset, entry.case_id))
            except UserError as error:
                self.unreadable[entry.case_id] = str(error)
        return cases


def _bytes(entry: Entry) -> int:
    return math.prod(entry.shape) * _SAMPLE_BYTES + math.prod(entry.shape[1:]) * _PIXEL_BYTES
