"""The leaderboard: one number a network, of each data set and each kind of attack apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.api import Tables, csv_text
from segbench.atomic import write_atomically
from segbench_reports.page import render_board
from segbench_reports.page.standing import placed


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``leaderboard.html`` and ``leaderboard.csv``: ``tables.headlines``, with places.

    The ``place`` is by ``value_shared``, what all networks of a ``board`` met alike, and empty for
    a network that is alone on its board.

    Raises:
        MachineError: the disk refused.
    """
    page, table = directory / "leaderboard.html", directory / "leaderboard.csv"
    write_atomically(page, render_board(tables).encode())
    write_atomically(table, csv_text(placed(tables)).encode())
    return [page, table]
