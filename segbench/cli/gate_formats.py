"""The gate's verdicts for machines: GitHub's annotations and summary, JUnit, a badge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from segbench.api import plain
from segbench.tables.verdicts import FAILURES, UNCHANGED

if TYPE_CHECKING:
    from pandas import DataFrame

_ANNOTATIONS = 10  # GitHub shows no more of a step
_SUMMARY_BYTES = 1_000_000  # it takes 1 MiB
_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]<>()#+-.!|~"})


def verdict(comparison: DataFrame) -> str:
    """The whole gate in a few words."""
    failed = int(comparison["verdict"].isin(FAILURES).sum())
    if failed:
        return f"{failed} of {len(comparison)} scores fail"
    return f"no regression in {len(comparison)} scores"


def github_annotations(comparison: DataFrame, golden: str) -> Iterator[str]:
    """Workflow commands, errors first, at most ten of them; the last counts what is left out."""
    lines = [
        ("error" if line["verdict"] in FAILURES else "notice", str(line["sentence"]))
        for line in comparison.to_dict("records")
        if line["verdict"] not in (UNCHANGED, "new")
    ]
    lines.sort(key=lambda line: line[0] != "error")
    room = len(lines) if len(lines) <= _ANNOTATIONS else _ANNOTATIONS - 1
    for level, sentence in lines[:room]:
        yield f"::{level} file={_property(golden)},title=segbench::{_message(sentence)}"
    if len(lines) > room:
        more = f"{len(lines) - room} more verdicts are in the job's summary"
        yield f"::notice title=segbench::{more}"


def github_summary(comparison: DataFrame) -> str:
    """Markdown for ``$GITHUB_STEP_SUMMARY``, under 1 MiB whatever the file holds."""
    parts = [f"### segbench: {verdict(comparison)}\n\n| verdict | score |\n| --- | --- |\n"]
    size = len(parts[0])
    failed_first = comparison.assign(failed=~comparison["verdict"].isin(FAILURES))
    changed = failed_first[failed_first["verdict"] != UNCHANGED]
    for number, line in enumerate(changed.sort_values("failed", kind="stable").to_dict("records")):
        text = f"| {line['verdict']} | {plain(str(line['sentence'])).translate(_MARKDOWN)} |\n"
        size += len(text.encode())
        if size > _SUMMARY_BYTES:
            parts.append(f"\n{len(changed) - number} more are left out.\n")
            break
        parts.append(text)
    unchanged = int((comparison["verdict"] == UNCHANGED).sum())
    return "".join([*parts, f"\n{unchanged} scores are unchanged.\n"])


def junit(comparison: DataFrame) -> str:
    """A test suite with a case for every score; failures are those that close the gate."""
    failed = int(comparison["verdict"].isin(FAILURES).sum())
    head = f'<testsuite name="segbench check" tests="{len(comparison)}" failures="{failed}">'
    cases = []
    for line in comparison.to_dict("records"):
        suite = f"{line['dataset']} {line['split']}"
        name = f"{line['metric']} of {line['model']}, {line['attack']} at {line['budget']:g}"
        start = f"<testcase classname={_attribute(suite)} name={_attribute(name)}"
        said = _attribute(str(line["sentence"]))
        if line["verdict"] in FAILURES:
            inside = f"<failure type={_attribute(str(line['verdict']))} message={said}/>"
        else:
            inside = f"<system-out>{escape(plain(str(line['sentence'])))}</system-out>"
        cases.append(f"{start}>{inside}</testcase>")
    body = "\n".join(cases)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{body}\n</testsuite>\n'


def badge(comparison: DataFrame) -> str:
    """The JSON of a shields.io endpoint badge."""
    failed = bool(comparison["verdict"].isin(FAILURES).any())
    facts = {
        "schemaVersion": 1,
        "label": "robustness",
        "message": verdict(comparison),
        "color": "red" if failed else "brightgreen",
    }
    return json.dumps(facts) + "\n"


def _attribute(text: str) -> str:
    return quoteattr(plain(text))


def _message(text: str) -> str:
    return plain(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
