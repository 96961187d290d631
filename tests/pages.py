"""What the pages of the repository show: their code, as modules, and what they say is stable."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "model": ROOT / "models" / "README.md",
    "attack": ROOT / "attacks" / "README.md",
    "data": ROOT / "segbench" / "data" / "README.md",
    "report": ROOT / "reports" / "README.md",
}


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in a language, in order, its indentation within a list taken away."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.M | re.S)
    return [textwrap.dedent(code) for _, code in found]


def example(page: Path, number: int = 0, **given: Any) -> ModuleType:
    """A page's Python as a module, run where these names are known."""
    module = ModuleType(f"example_{number}_of_the_page_{page.parent.name}")
    vars(module).update(given)
    sys.modules[module.__name__] = module  # dataclasses look there
    exec(compile(blocks(page, "python")[number], str(page), "exec"), vars(module))
    return module


def stable(page: Path) -> set[str]:
    """The modules that a page says may be imported."""
    (sentence,) = re.findall(r"What stays as it is between versions.*?\n\n", page.read_text(), re.S)
    return set(re.findall(r"`(segbench\w*(?:\.\w+)+)`", sentence))
