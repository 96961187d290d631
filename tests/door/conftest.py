"""An evaluation whose work is counted, and a registry that forgets what a test registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import Silence

import segbench
from segbench.plugins import registry


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    yield
    for registered in registry._registered.values():
        registered.clear()
    registry.load.cache_clear()


class Counting(Silence):
    """A listener that counts the scores of cases."""

    def __init__(self) -> None:
        self.computed = self.found = 0

    def cases(self, computed: int, found: int) -> None:
        self.computed += computed
        self.found += found


@pytest.fixture
def run() -> Callable[..., tuple[segbench.Result, Counting]]:
    """``run(network, data, workspace, **asked)``: fgsm at 4/255 unless something else is asked."""

    def evaluate(network: Any, data: Any, workspace: Path, **more: Any) -> Any:
        heard = Counting()
        asked = {"attacks": ["fgsm"], "eps": ["4/255"], "device": "cpu", **more}
        result = segbench.evaluate(network, data, workspace=workspace, listener=heard, **asked)
        return result, heard

    return evaluate
