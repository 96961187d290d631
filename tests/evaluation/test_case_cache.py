"""Cases are read once where they fit, one shard ahead where they do not, and never lost."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from segbench.api import Case, Entry
from segbench.errors import UserError
from segbench.evaluation import case_cache
from segbench.evaluation.case_cache import CaseCache

SHARDS = [[Entry(f"{shard}{n}", "g", (1, 4, 4)) for n in "ab"] for shard in "xyz"]


class Reads:
    """A data set that writes down what it is asked for."""

    class_names, in_channels, spatial_dims = ("background", "organ"), 1, 2

    def __init__(self) -> None:
        self.log: list[str] = []
        self.threads: set[str] = set()

    def load(self, case_id: str) -> Any:
        self.log.append(case_id)
        self.threads.add(threading.current_thread().name)
        if case_id == "zb":
            raise UserError("zb is broken")
        image, labels = np.zeros((1, 4, 4), np.float32), np.zeros((4, 4), np.int64)
        return Case(case_id, "g", image, labels, self.class_names)


def names(cases: list[Case]) -> list[str]:
    return [case.case_id for case in cases]


def test_what_fits_is_read_once() -> None:
    data = Reads()
    cache = CaseCache(data, SHARDS[:2])  # type: ignore[arg-type]
    for _ in range(3):
        assert [names(cache.load(n)) for n in (0, 1)] == [["xa", "xb"], ["ya", "yb"]]
    assert data.log == ["xa", "xb", "ya", "yb"]


def test_what_does_not_fit_is_read_ahead_by_one_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_cache, "_KEEP_BYTES", 0)
    data = Reads()
    cache = CaseCache(data, [SHARDS[0], SHARDS[1], SHARDS[0]])  # type: ignore[arg-type]
    assert names(cache.load(0)) == ["xa", "xb"]
    cache.close()  # waits for what is being read
    assert set(cache._loaded) == {0, 1}
    assert threading.current_thread().name not in data.threads


def test_a_broken_case_is_left_out_of_its_shard_and_named() -> None:
    cache = CaseCache(Reads(), SHARDS)  # type: ignore[arg-type]
    assert names(cache.load(1)) == ["ya", "yb"]
    assert names(cache.load(2)) == ["za"]
    assert cache.unreadable == {"zb": "zb is broken"}
