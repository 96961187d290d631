"""LaTeX: the table of scores of every data set and kind of budget, for booktabs.

A mean stands above its interval, and a table that is wider than the text is made as wide.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.api import Tables, best_points, distrusted, plain
from segbench.atomic import write_atomically
from segbench.plugins.naming import point_names

if TYPE_CHECKING:
    from pandas import DataFrame

_IsBest = Callable[[Mapping[Any, Any], str], bool]
_SPECIAL = {  # a bracket at the start of a line would be an option of the line before
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "[": "{[}", "°": r"\textdegree{}", "∞": r"$\infty$", "–": "--",
}  # fmt: skip
_NEEDS = "% Needs \\usepackage{booktabs,graphicx} and \\usepackage[T1]{fontenc}.\n"
_WIDTH = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_KINDS = {
    "linf": "L∞", "l2": "L2", "l1": "L1", "severity": "severity", "area": "patch area",
    "certified": "lower bounds that are certified of the smoothed network, by L2 radius",
}  # fmt: skip


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``tables.tex``, to be included; its first line says which packages it needs.

    Raises:
        MachineError: the disk refused.
    """
    path = directory / "tables.tex"
    write_atomically(path, render(tables).encode())
    return [path]


def render(tables: Tables) -> str:
    """A ``table`` each: the best network under each attack is bold, intervals are small."""
    parts, is_best = [_NEEDS], best_points(tables.curves)
    for (dataset, split), part in tables.summary.groupby(["dataset", "split"], sort=True):
        for kind, own in part.groupby("budget_kind", sort=True):
            where = f"{dataset}, {split} split, {_KINDS.get(str(kind), 'clean images')}"
            what = "Certificate" if kind == "certified" else "Attack"
            parts.append(_table(own, where, what, is_best))
    return "\n".join(parts)


def escape(text: str) -> str:
    """A text that LaTeX sets as it is."""
    escaped = "".join(_SPECIAL.get(sign, sign) for sign in plain(text))
    return re.sub(r"\s+", " ", escaped)


def _table(curves: DataFrame, where: str, what: str, is_best: _IsBest) -> str:
    points = [name for name in point_names(curves) if curves[name].notna().any()]
    heads = ["Network", what, *points, "AUC", "$n$"]
    doubts = {word for marks in curves["marks"] for word in distrusted(str(marks)).split()}
    listed = escape(" ".join(sorted(doubts)))
    doubted = rf" $\dagger$: marked {listed}, not to be trusted as it stands." if doubts else ""
    lines = [
        r"\begin{table}",
        rf"\caption{{Mean Jaccard with its 95\,\% interval over groups; {escape(where)}. "
        rf"$n$: cases / groups.{doubted}}}",
        r"\centering",
        _WIDTH,
        rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}}",
        r"\toprule",
        " & ".join([*(escape(head) for head in heads[:-1]), heads[-1]]) + r" \\",
        r"\midrule",
        *_rows(curves, points, is_best),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _rows(curves: DataFrame, points: Sequence[str], is_best: _IsBest) -> Iterator[str]:
    for line in curves.to_dict("records"):
        mark = r"~$\dagger$" if distrusted(str(line["marks"])) else ""
        cells = [escape(str(line["model"])), escape(str(line["attack"])) + mark]
        for name in points:
            text = _number(line[name])
            cells.append(rf"\textbf{{{text}}}" if is_best(line, name) else text)
        cells += [_number(line["auc"]), f"{line['cases']} / {line['groups']}"]
        yield " & ".join(cells) + r" \\"
        intervals = [_interval(line[f"{name}_low"], line[f"{name}_high"]) for name in points]
        if any(intervals):  # closer to their means than to the next line
            yield " & ".join(["", "", *intervals, "", ""]) + r" \\[3pt]"


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else rf"{{\scriptsize [{low:.3f}, {high:.3f}]}}"


def _number(value: float) -> str:
    return "--" if math.isnan(value) else f"{value:.3f}"
