"""The leaderboard: one number a network, of each data set and each kind of attack apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.api import Tables, csv_text
from segbench.atomic import write_atomically
from segbench_reports.page import render_board


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``leaderboard.html`` and ``leaderboard.csv`` of ``tables.headlines``.

    Raises:
        MachineError: the disk refused.
    """
    page, table = directory / "leaderboard.html", directory / "leaderboard.csv"
    write_atomically(page, render_board(tables).encode())
    write_atomically(table, csv_text(tables.headlines).encode())
    return [page, table]
