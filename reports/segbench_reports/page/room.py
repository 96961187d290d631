"""What a page has room for: under 5 MB whatever the grid, and it says what it leaves out.

Counted by what takes the bytes: points that are drawn, lines of tables, pictures. A frame and the
shapes of a network's cases are drawn for the networks that keep most; every network stands in the
tables, as far as these go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from segbench.api import Tables
from segbench.plugins.naming import point_names
from segbench_reports.page.words import of_data

POINTS = 2400  # drawn, of all data sets together
CELLS = 12_000  # of tables of scores
LINES = 1800  # of any other table
SENTENCES = 300
RANKS = 20  # whose chances are drawn
PICTURES = 2_000_000  # bytes as they stand in the page, on one with few points
_FEWER = 500  # bytes for each point that is drawn

Line = TypeVar("Line")


def first(lines: Sequence[Line], most: int | None = None) -> tuple[Sequence[Line], int]:
    """As many as there is room for, ``LINES`` if nothing is said, and how many are left out."""
    most = LINES if most is None else most
    return lines[:most], max(0, len(lines) - most)


def framed(tables: Tables, dataset: str, split: str) -> list[str]:
    """The networks whose curves are drawn: all, or those that keep most."""
    own = of_data(tables.summary, dataset, split)
    share = len(own) / max(1, len(tables.summary))
    points = own[point_names(own)].notna().sum(axis=1).groupby(own["model"]).sum()
    order = _best_first(tables, dataset, split)
    chosen: list[str] = []
    room = POINTS * share
    for model in [*order, *(name for name in points.index if name not in order)]:
        room -= int(points.get(model, 0))
        if room < 0 and chosen:
            break
        chosen.append(str(model))
    return chosen


def _best_first(tables: Tables, dataset: str, split: str) -> list[str]:
    """Networks by their one number against attacks, of clean images where there were none."""
    lines = of_data(tables.headlines, dataset, split)
    ordered = lines.assign(last=lines["of"] == "clean").sort_values(
        ["last", "value"], ascending=[True, False], kind="stable"
    )
    return [str(model) for model in ordered["model"].drop_duplicates()]


def for_pictures(data: Sequence[dict[str, Any]]) -> int:
    """Bytes that the frames of all data sets leave to pictures."""
    drawn = sum(
        len(line.points) for part in data for chart in part["panels"] for line in chart.lines
    )
    return max(PICTURES // 3, PICTURES - _FEWER * drawn)
