"""JUnit: a test case for every curve, failed where its numbers are not to be trusted.

The gate's own verdicts are those of ``segbench check --format junit``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from segbench.api import Tables, distrusted, plain
from segbench.atomic import write_atomically
from segbench.plugins.naming import point_names


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``report.junit.xml``.

    Raises:
        MachineError: the disk refused.
    """
    path = directory / "report.junit.xml"
    write_atomically(path, render(tables).encode())
    return [path]


def render(tables: Tables) -> str:
    """One suite; scores stand in ``system-out``."""
    points = point_names(tables.summary)
    lines = tables.summary.to_dict("records")
    cases = [_case(line, points) for line in lines]
    failed = sum("<failure" in case for case in cases)
    head = f'<testsuite name="segbench report" tests="{len(cases)}" failures="{failed}">'
    body = "\n".join(cases)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{body}\n</testsuite>\n'


def _case(line: dict[Any, Any], points: Sequence[str]) -> str:
    where = quoteattr(plain(f"{line['dataset']} {line['split']}"))
    how = "certified by" if line["budget_kind"] == "certified" else "under"
    name = quoteattr(plain(f"{line['model']} {how} {line['attack']}"))
    said = ", ".join(
        f"{point} {line[point]:.3f}" for point in points if not math.isnan(line[point])
    )
    doubts = distrusted(str(line["marks"]))
    inside = f"<system-out>{escape(plain(said))}</system-out>"
    if doubts:
        message = quoteattr(f"marked {doubts}: not to be trusted as it stands")
        inside = f'<failure type="doubt" message={message}/>{inside}'
    return f"<testcase classname={where} name={name}>{inside}</testcase>"
