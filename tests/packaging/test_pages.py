"""What the pages for plug-ins show: it imports what stays as it is, and nothing else of ours."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest
from pages import PAGES, ROOT, blocks, stable

OURS = ("segbench", "segbench_models", "segbench_attacks", "segbench_reports")


def imports(code: str) -> set[str]:
    """The modules of ours that it imports from."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.partition(".")[0] in OURS}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_examples_import_what_their_page_says_is_stable_and_nothing_else(page) -> None:
    codes = blocks(page, "python")
    assert codes
    for code in codes:
        assert imports(code) <= stable(page)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_what_is_said_to_be_stable_is_there(page) -> None:
    assert {"segbench.api", "segbench.errors", "segbench.atomic"} <= stable(page)
    for name in stable(page):
        assert import_module(name).__doc__


def test_every_room_for_plugins_is_linked_from_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for page in PAGES.values():
        assert f"({page.relative_to(ROOT)})" in text
