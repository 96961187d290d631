"""CSV: the tables as they are, at full precision, for whoever computes further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.api import Tables, csv_parts
from segbench.atomic import write_atomically


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``rows.csv``, ``cases.csv``, ``curves.csv`` and ``summary.csv``; NaN is left empty.

    Where they have lines also ``distances.csv`` (minimum-norm attacks), ``seeds.csv``,
    ``comparisons.csv``, ``optimality.csv``, ``winners.csv`` and ``certificates.csv``. Texts are
    written so that no spreadsheet takes one for a formula.

    Raises:
        MachineError: the disk refused.
    """
    frames = {
        "rows": tables.rows,
        "cases": tables.cases,
        "curves": tables.curves,
        "summary": tables.summary,
    }
    further = {
        "distances": tables.distances,
        "seeds": tables.seeds,
        "comparisons": tables.comparisons,
        "optimality": tables.optimality,
        "winners": tables.winners,
        "certificates": tables.certificates,
    }
    frames |= {name: frame for name, frame in further.items() if not frame.empty}
    paths = []
    for name, frame in frames.items():
        path = directory / f"{name}.csv"
        write_atomically(path, csv_parts(frame))
        paths.append(path)
    return paths
