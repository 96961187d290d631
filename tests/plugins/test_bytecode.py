"""The hash of code: another for every change that matters, and the same for all others."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from segbench.plugins.source import code_hash

CELL = """
import torch
import functools

SCALE = 2
WORDS = {"a", "b", "c", "d"}
TABLE = {"relu": torch.relu}

def helper(x, power=1):
    return x ** power if "a" in {"a", "b", "c"} else SCALE * x

class Base:
    offset = 1

class Net(Base):
    def __init__(self):
        self.act = torch.relu

    @property
    def scale(self):
        return SCALE

    @functools.lru_cache
    def cached(self):
        return WORDS, TABLE

    def forward(self, x):
        return helper(x) + self.offset
"""


@dataclass
class Settings:
    scale: Any


def digest(cell: str = CELL, **more: Any) -> str:
    module = ModuleType("cells")
    sys.modules["cells"] = module
    try:
        exec(compile(textwrap.dedent(cell), "<cell>", "exec"), vars(module))
        vars(module).update(more)
        return code_hash(module.Net)
    finally:
        del sys.modules["cells"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("helper(x) +", "helper(x) -"),
        ("x ** power", "x * power"),
        ("power=1", "power=3"),
        ("SCALE = 2", "SCALE = 4"),
        ("offset = 1", "offset = 2"),
        ("return SCALE", "return -SCALE"),
        ("return WORDS", "return SCALE, WORDS"),
        ('"d"}', '"e"}'),
        ("torch.relu}", "torch.sigmoid}"),
        ("self.act = torch.relu", "self.act = torch.tanh"),
        ('"b", "c"} else', '"b"} else'),
    ],
)
def test_a_change_that_matters_is_seen(old: str, new: str) -> None:
    assert old in CELL
    assert digest(CELL.replace(old, new)) != digest()


def test_a_change_that_matters_not_is_not() -> None:
    assert digest("\n\n# a comment\n" + CELL) == digest()
    assert digest(CELL + "\nUNUSED = 3\ndef unused(): pass\n") == digest()
    assert digest(offset=7, x=torch.rand(3)) == digest()  # names of attributes and locals


def test_it_is_the_same_in_every_process() -> None:
    """Sets of text are in another order in every one."""
    code = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    command = [sys.executable, "-c", code + "import test_bytecode\nprint(test_bytecode.digest())"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    assert done.stdout == digest() + "\n"


def test_an_object_of_a_class_of_the_notebook_counts_by_what_it_holds() -> None:
    cell = """
    class Config:
        def __init__(self):
            self.scale = 1

    CONFIG = Config()

    class Net:
        def forward(self, x):
            return CONFIG.scale * x
    """
    edited = f"{textwrap.dedent(cell)}\nCONFIG.scale = 2"  # by no code of the class
    assert digest(cell) == digest(cell) != digest(edited)


def test_what_refers_to_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    cell = (
        "REGISTRY = []\nclass Net:\n  def f(self):\n    return REGISTRY, Net\nREGISTRY.append(Net)"
    )
    assert digest(cell) == digest(cell)
    assert code_hash(loop) == code_hash(loop)


@pytest.mark.parametrize("values", [
    (1, 2), (1, True), (1, 1.0), (None, "None"), ([1, 2], [2, 1]), ({"a": 1}, {"a": 2}),
    (torch.zeros(2), torch.zeros(3)), (torch.zeros(2), torch.zeros(2).double()),
    (torch.float32, torch.float16), (torch.relu, torch.tanh), (int, float),
    (SimpleNamespace(scale=1), SimpleNamespace(scale=2)), (Settings(1), Settings([2])),
])  # fmt: skip
def test_values_count_by_what_they_hold(values: tuple[Any, Any]) -> None:
    first, second = map(code_hash, values)
    assert first != second
    assert first == code_hash(values[0])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The digest of ``mine.net.Net``, whose package has the given files."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**files: str) -> str:
        for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
            del sys.modules[name]
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / "__init__.py").touch()
        for name, text in files.items():
            (tmp_path / "mine" / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return code_hash(importlib.import_module("mine.net").Net)

    return make


def test_of_a_package_the_files_it_refers_to_count(package: Callable[..., str]) -> None:
    net = "from mine.layers import double\nclass Net:\n    pass\n"
    layers = "def double(x):\n    return 2 * x\n"
    first = package(net=net, layers=layers, other="")
    assert package(net=net, layers=layers, other="unrelated = 1") == first
    assert package(net=net, layers=layers.replace("2", "3")) != first
    assert package(net=net + "# edited\n", layers=layers) != first
