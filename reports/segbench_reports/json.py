"""JSON: the tables that a page shows, as one document with one schema, for other programs.

    {"schema": 1, "notes": [...], "warnings": [...], "attacks": {...}, "provenance": {...},
     "curves": [{...}], "summary": [...], "headlines": [...], "compared": [...],
     "standings": [...], "distances": [...], "comparisons": [...], "ranks": [...],
     "seeds": [...], "structures": [...], "costs": [...], "optimality": [...], "winners": [...],
     "certificates": [...], "transfers": [...]}

Every table is a list of records, one per line, its columns those of ``reports/README.md``; of a
transfer matrix ``scores`` are those of each target by each source. What is
not a number is null, numbers have twelve digits, and a distance that no case ever needed is the
text "infinity".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.api import Tables, TransferMatrix, plain
from segbench.atomic import write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA = 1
_DIGITS = 12  # of a number; the last of the sixteen depend on the order of a sum
TABLES = (
    "curves", "summary", "headlines", "compared", "standings", "distances", "comparisons",
    "ranks", "seeds", "structures", "costs", "optimality", "winners", "certificates",
)  # fmt: skip


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``report.json``; the same rows give the same bytes.

    Raises:
        MachineError: the disk refused.
    """
    path = directory / "report.json"
    write_atomically(path, render(tables).encode())
    return [path]


def render(tables: Tables) -> str:
    """The whole document, a record a line."""
    parts: dict[str, Any] = {
        "schema": SCHEMA,
        "notes": [*tables.notes],
        "warnings": [*tables.warnings],
        "attacks": {name: dict(values) for name, values in tables.attacks.items()},
        "provenance": dict(tables.provenance),
    }
    lines = [f"{json.dumps(name)}: {_dumped(value)}" for name, value in parts.items()]
    lines += [f"{json.dumps(name)}: {_records(getattr(tables, name))}" for name in TABLES]
    lines.append(f'"transfers": {_listed([*map(_matrix, tables.transfers)])}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _matrix(matrix: TransferMatrix) -> dict[str, Any]:
    """Facts of a matrix, and ``scores``: source -> target -> mean Jaccard."""
    facts = {name: getattr(matrix, name) for name in ("dataset", "split", "attack", "eps")}
    return facts | {"scores": matrix.scores.to_dict("index")}


def _records(table: DataFrame) -> str:
    return _listed(table.to_dict("records"))


def _listed(values: Sequence[Mapping[Any, Any]]) -> str:
    records = [_dumped(value) for value in values]
    return "[\n  " + ",\n  ".join(records) + "\n]" if records else "[]"


def _dumped(value: Any) -> str:
    return json.dumps(_known(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _known(value: Any) -> Any:
    """The same with nothing in it that JSON, or a terminal, does not know."""
    if isinstance(value, dict):
        return {plain(str(key)): _known(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_known(inner) for inner in value]
    if isinstance(value, str):
        return plain(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "infinity"
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
