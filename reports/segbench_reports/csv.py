"""CSV: the tables as they are, at full precision, for whoever computes further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.api import Tables
from segbench.atomic import write_atomically


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``rows``, ``cases``, ``curves``, ``summary`` and ``distances.csv``; NaN is left empty.

    There is no ``distances.csv`` where no minimum-norm attack was run.

    Raises:
        MachineError: the disk refused.
    """
    frames = {
        "rows": tables.rows,
        "cases": tables.cases,
        "curves": tables.curves,
        "summary": tables.summary,
    }
    if not tables.distances.empty:
        frames["distances"] = tables.distances
    paths = []
    for name, frame in frames.items():
        path = directory / f"{name}.csv"
        write_atomically(path, frame.to_csv(index=False, lineterminator="\n").encode())
        paths.append(path)
    return paths
