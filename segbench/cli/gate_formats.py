"""The gate's verdicts for machines: GitHub's annotations and summary, JUnit, a badge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from segbench.api import plain
from segbench.tables.gate import Gate
from segbench.tables.verdicts import FAILURES, MARKED, NEW, UNCHANGED

_ANNOTATIONS = 10  # GitHub shows no more of a step
_SUMMARY_BYTES = 1_000_000  # it takes 1 MiB
_LEVELS = ("error", "warning", "notice")
_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]<>()#+-.!|~"})


def github_annotations(gate: Gate, golden: str) -> Iterator[str]:
    """Workflow commands, errors first, at most ten of them; the last counts what is left out."""
    lines = [("notice", remark) for remark in gate.remarks]
    lines += [
        (_level(str(line["verdict"])), str(line["sentence"]))
        for line in gate.comparison.to_dict("records")
        if line["verdict"] not in (UNCHANGED, NEW)
    ]
    lines.sort(key=lambda line: _LEVELS.index(line[0]))
    room = len(lines) if len(lines) <= _ANNOTATIONS else _ANNOTATIONS - 1
    for level, sentence in lines[:room]:
        yield f"::{level} file={_property(golden)},title=segbench::{_message(sentence)}"
    if len(lines) > room:
        more = f"{len(lines) - room} more verdicts are in the job's summary"
        yield f"::notice title=segbench::{more}"


def _level(verdict: str) -> str:
    if verdict in FAILURES:
        return "error"
    return "warning" if verdict == MARKED else "notice"


def github_summary(gate: Gate) -> str:
    """Markdown for ``$GITHUB_STEP_SUMMARY``, under 1 MiB whatever the file holds."""
    comparison = gate.comparison
    said = "".join(f"- {_cell(remark)}\n" for remark in gate.remarks)
    head = f"### segbench: {gate.verdict}\n\n{said}\n| verdict | score |\n| --- | --- |\n"
    parts, size = [head], len(head.encode())
    failed_first = comparison.assign(failed=~comparison["verdict"].isin(FAILURES))
    changed = failed_first[failed_first["verdict"] != UNCHANGED]
    for number, line in enumerate(changed.sort_values("failed", kind="stable").to_dict("records")):
        text = f"| {line['verdict']} | {_cell(str(line['sentence']))} |\n"
        size += len(text.encode())
        if size > _SUMMARY_BYTES:
            parts.append(f"\n{len(changed) - number} more are left out.\n")
            break
        parts.append(text)
    unchanged = int((comparison["verdict"] == UNCHANGED).sum())
    return "".join([*parts, f"\n{unchanged} scores are unchanged.\n"])


def junit(gate: Gate) -> str:
    """A test suite with a case for every score; failures are those that close the gate.

    New scores, which nothing is compared with, are skipped.
    """
    new = int((gate.comparison["verdict"] == NEW).sum())
    counts = f'tests="{len(gate.comparison)}" failures="{gate.failed}" skipped="{new}"'
    head = f'<testsuite name="segbench check" {counts}>'
    cases = []
    for line in gate.comparison.to_dict("records"):
        suite = f"{line['dataset']} {line['split']}"
        name = f"{line['metric']} of {line['model']}, {line['attack']} at {line['budget']:g}"
        start = f"<testcase classname={_attribute(suite)} name={_attribute(name)}"
        said = _attribute(str(line["sentence"]))
        if line["verdict"] in FAILURES:
            inside = f"<failure type={_attribute(str(line['verdict']))} message={said}/>"
        elif line["verdict"] == NEW:
            inside = f"<skipped message={said}/>"
        else:
            inside = f"<system-out>{escape(plain(str(line['sentence'])))}</system-out>"
        cases.append(f"{start}>{inside}</testcase>")
    if gate.remarks:
        said = "\n".join(plain(remark) for remark in gate.remarks)
        cases.append(f"<system-out>{escape(said)}</system-out>")
    body = "\n".join(cases)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{body}\n</testsuite>\n'


def badge(gate: Gate) -> str:
    """The JSON of a shields.io endpoint badge."""
    facts = {
        "schemaVersion": 1,
        "label": "robustness",
        "message": gate.verdict,
        "color": "red" if gate.failed else "yellow" if gate.marked else "brightgreen",
    }
    return json.dumps(facts) + "\n"


def _cell(text: str) -> str:
    return plain(text).translate(_MARKDOWN)


def _attribute(text: str) -> str:
    return quoteattr(plain(text))


def _message(text: str) -> str:
    return plain(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
