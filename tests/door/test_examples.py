"""Every example in a docstring of the core, and the README's, does what it says."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
from toys import Curved, curved_scene

import segbench

ROOT = Path(segbench.__file__).parents[1]
EXAMPLES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in (ROOT / "segbench").rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("module", EXAMPLES)
def test_the_examples_of_the_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed


def test_the_door_has_examples_for_everything_it_offers() -> None:
    for name in segbench.__all__:
        if name not in ("Result", "__version__"):
            assert ">>> " in getattr(segbench, name).__doc__


def test_the_readme_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "segbench.evaluate" in block]
    assert len(code.splitlines()) == 6
    images, labels = curved_scene(2)
    exec(code, {"network": Curved(), "images": images, "labels": labels})
    assert (tmp_path / "out" / "report.md").exists()
