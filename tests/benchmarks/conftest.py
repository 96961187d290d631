"""The scripts of benchmarks/ as modules of this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """``script("store")``; they import each other by names that other modules have elsewhere."""
    names = {path.stem for path in SCRIPTS.glob("*.py")}
    aside = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(aside)
