"""The tables of scores on a terminal: networks are rows, budgets are columns.

Nothing is broken within a word: a name that is too long for its column has a line of its own, and
budgets that do not fit go into a further block. A pipe gets what a terminal of its width gets,
without colours.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from segbench.api.marks import distrusted
from segbench.api.report import best_points
from segbench.cli.consoles import console
from segbench.cli.terminal import plain
from segbench.plugins.naming import point_names
from segbench.tables.certified import ALL

if TYPE_CHECKING:
    from pandas import DataFrame

    from segbench.api import Tables

KINDS = {
    "linf": "L∞",
    "l2": "L2",
    "l1": "L1",
    "severity": "severity",
    "area": "area",
    "none": "clean",
}
_NARROW, _WIDE = 7, 22  # a score, and a score with its interval
_LABEL = 14  # the least that names have
_PROVED = ("radius", "jaccard", "smoothed_jaccard")
_CERTIFIED = {
    "tau": 5, "radius": 8, "certified": 11, "smoothed": 10, "abstained": 11, "coarse": 8, "cases": 6
}  # fmt: skip
"""Columns of certificates and their widths: 59 columns, the names of certificates above them."""

_SPARKS = "▁▂▃▄▅▆▇█"
_BULLET = "• "
_DISTRUSTED, _DOUBTED = "!", "°"
_EXPLAINED = {
    _DISTRUSTED: "not to be trusted as it stands: see the notes",
    _DOUBTED: "an interval may cover less than it claims: few groups, a width that very few "
    "patients make, or too small a sample for rare failures to show",
}


def show_summary(tables: Tables) -> None:
    """Mean Jaccard of every network and attack at every budget, then what must be known of it."""
    with console:  # thousands of lines at once
        _show(tables)


def _show(tables: Tables) -> None:
    marks: set[str] = set()
    is_best = best_points(tables.curves)
    for (dataset, split), part in tables.summary.groupby(["dataset", "split"], sort=True):
        for kind in [kind for kind in KINDS if (part["budget_kind"] == kind).any()]:
            own = part[part["budget_kind"] == kind]
            title = f"Mean Jaccard on {dataset}, {split} split, {KINDS[kind]}"
            for text in wrapped(title, console.width):
                _print(Text(text, "bold"))
            for line in _block(own, kind, console.width, marks, is_best):
                _print(line)
            _print(Text())
    for line in _certificates(tables, marks):
        _print(line)
    for mark in (_DISTRUSTED, _DOUBTED):
        if mark in marks:
            for text in wrapped(f"{mark} {_EXPLAINED[mark]}", console.width):
                _print(Text(text))
    for note in tables.notes:
        for text in wrapped(f"• {note}", console.width):
            _print(Text(text))


def _certificates(tables: Tables, marks: set[str]) -> Iterator[Text]:
    """A line per certificate and radius of every network: lower bounds, which no attack is."""
    whole = tables.certificates
    whole = whole[whole["class_name"] == ALL] if len(whole) else whole
    for (dataset, split), part in whole.groupby(["dataset", "split"]) if len(whole) else ():
        title = f"Certified on {dataset}, {split} split: of smoothed networks, L2, lower bounds"
        for text in wrapped(title, console.width):
            yield Text(text, "bold")
        yield Text("".join(head.rjust(size) for head, size in _CERTIFIED.items()), "dim")
        before = ("", "")
        for line in part.to_dict("records"):
            mark = _DISTRUSTED if distrusted(str(line["marks"])) else ""
            marks |= {*mark}
            model, name = str(line["model"]), f"  {line['certificate']} {mark}".rstrip()
            if model != before[0]:
                yield Text(plain(model), "bold")
            if (model, name) != before:
                yield Text(plain(name))
            before = model, name
            shares = (f"{line['abstained']:.1%}", f"{line['coarse']:.1%}", str(line["cases"]))
            numbers = (f"{line['tau']:g}", *(score(line[name]) for name in _PROVED), *shares)
            sized = zip(numbers, _CERTIFIED.values(), strict=True)
            yield Text("".join(number.rjust(size) for number, size in sized))
        yield Text()


def wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    """Lines of whole words; one that is longer than the width stands as it is.

    A bullet at the start stays before the first word.
    """
    bullet = _BULLET if text.startswith(_BULLET) else ""
    return textwrap.wrap(
        plain(text.removeprefix(bullet)), width, initial_indent=bullet, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def spark(scores: Sequence[float]) -> str:
    """A curve in a word: a block for each point, as high as its score; a space for none."""
    return "".join(
        " " if math.isnan(score) else _SPARKS[min(7, int(8 * max(0.0, score)))] for score in scores
    )


def _print(line: Text) -> None:
    line.rstrip()
    console.print(line, soft_wrap=True)


def _block(
    curves: DataFrame,
    kind: str,
    width: int,
    marks: set[str],
    is_best: Callable[[Mapping[Any, Any], str], bool],
) -> Iterator[Text]:
    """The lines of one data set and kind of budget, in as many blocks of columns as are needed."""
    points = [name for name in point_names(curves) if curves[name].notna().any()]
    lines = curves.sort_values("model", kind="stable").to_dict("records")
    longest = max(len(plain(f"  {attack}")) for attack in curves["attack"]) + 3
    ends = 2 * _NARROW + len(points) + 2  # AUC, cases, and the spark line
    wide = min(longest, width // 3) + _WIDE * len(points) + ends <= width
    cell = _WIDE if wide else _NARROW
    left = width - cell * len(points) - ends
    label = min(longest, left if left >= _LABEL else max(_LABEL, width // 3))
    room = max(1, (width - label) // cell)
    starts = [*range(0, len(points), room)]
    if label + cell * (len(points) - starts[-1]) + ends > width:
        starts.append(len(points))  # what sums up the curves is a block of its own
    for start in starts:
        shown = points[start : start + room]
        last = start == starts[-1]
        heads = [_head(name, kind) for name in shown] + (["AUC", "cases"] if last else [])
        sizes = [cell] * len(shown) + [_NARROW] * (2 * last)
        title = "".join(text.rjust(size) for text, size in zip(heads, sizes, strict=True))
        yield Text(" " * label + title, "dim")
        before = None
        for line in lines:
            if line["model"] != before:
                yield Text(plain(str(line["model"])), "bold")
                before = line["model"]
            found = {name: is_best(line, name) for name in shown}
            yield from _row(line, label, found, cell, wide, points if last else (), marks)


def _row(
    line: Mapping[Any, Any],
    label: int,
    shown: Mapping[str, bool],
    cell: int,
    wide: bool,
    points: Sequence[str],
    marks: set[str],
) -> Iterator[Text]:
    """A curve: its name, a score at each point that is shown, and at the end what sums it up."""
    mark = _DISTRUSTED if distrusted(str(line["marks"])) else ""
    mark += _DOUBTED if line["doubt"] else ""
    marks |= {*mark}
    name = plain(f"  {line['attack']} {mark}").rstrip()
    if len(name) >= label:
        yield Text(name)
        name = ""
    text = Text(name.ljust(label))
    for point, best in shown.items():
        text.append(_cell(line, point, wide).rjust(cell), "bold" if best else "")
    if points:
        text.append(score(line["auc"]).rjust(_NARROW))
        text.append(str(line["cases"]).rjust(_NARROW))
        text.append("  " + spark([line[point] for point in points]))
    yield text


def _cell(line: Mapping[Any, Any], point: str, wide: bool) -> str:
    value = score(line[point])
    if not wide or math.isnan(line[f"{point}_low"]):
        return value
    return f"{value} [{line[f'{point}_low']:.3f}, {line[f'{point}_high']:.3f}]"


def _head(point: str, kind: str) -> str:
    return point.removeprefix("severity ") if kind == "severity" else point


def score(value: Any, decimals: int = 3, sign: str = "") -> str:
    """A metric in decimals, a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:{sign}.{decimals}f}"
