"""The report that reports/README.md writes down is one, and the page names every table."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pages import PAGES, example
from pandas import DataFrame

from segbench.api import Tables
from segbench.plugins.contract import check_factory
from segbench.plugins.registry import Plugin
from segbench.plugins.report import write_report

PAGE = PAGES["report"]


def test_the_example_writes_its_file(tmp_path: Path) -> None:
    write = example(PAGE).write
    check_factory("reports", write)
    empty: dict[str, Any] = {f.name: DataFrame() for f in fields(Tables) if f.name in FRAMES}
    tables = replace(Tables(**empty), summary=DataFrame({"model": ["unet"], "clean": [0.5]}))
    (path,) = write_report(Plugin("reports", "html", write, "mine", "1"), tables, tmp_path)
    assert "<td>unet</td>" in path.read_text()


FRAMES = {"rows", "cases", "curves", "summary", "distances", "seeds", "comparisons"}


def test_the_page_has_a_row_for_every_table() -> None:
    text = PAGE.read_text()
    for f in fields(Tables):
        assert f"| `{f.name}`" in text
