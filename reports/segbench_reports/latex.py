"""LaTeX: the table of scores of every data set and kind of budget, for booktabs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.api import Tables, plain
from segbench.atomic import write_atomically
from segbench.plugins.naming import point_names

if TYPE_CHECKING:
    from pandas import DataFrame

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "°": r"\textdegree{}", "∞": r"$\infty$", "–": "--",
}  # fmt: skip
_KINDS = {"linf": "L∞", "l2": "L2", "l1": "L1", "severity": "severity", "area": "patch area"}


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``tables.tex``, to be included after ``\\usepackage{booktabs}``.

    Raises:
        MachineError: the disk refused.
    """
    path = directory / "tables.tex"
    write_atomically(path, render(tables).encode())
    return [path]


def render(tables: Tables) -> str:
    """A ``table`` each: the best network under each attack is bold, intervals are small."""
    parts = ["% Needs \\usepackage{booktabs} and \\usepackage{textcomp}.\n"]
    for (dataset, split), part in tables.summary.groupby(["dataset", "split"], sort=True):
        for kind, own in part.groupby("budget_kind", sort=True):
            where = f"{dataset}, {split} split, {_KINDS.get(str(kind), 'clean images')}"
            parts.append(_table(own, where))
    return "\n".join(parts)


def escape(text: str) -> str:
    """A text that LaTeX sets as it is."""
    escaped = "".join(_SPECIAL.get(sign, sign) for sign in plain(text))
    return re.sub(r"\s+", " ", escaped)


def _table(curves: DataFrame, where: str) -> str:
    points = [name for name in point_names(curves) if curves[name].notna().any()]
    heads = ["Network", "Attack", *points, "AUC", "$n$"]
    lines = [
        r"\begin{table}",
        rf"\caption{{Mean Jaccard with its 95\,\% interval over groups; {escape(where)}. "
        r"$n$: cases / groups.}",
        rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}}",
        r"\toprule",
        " & ".join([*(escape(head) for head in heads[:-1]), heads[-1]]) + r" \\",
        r"\midrule",
        *_rows(curves, points),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _rows(curves: DataFrame, points: Sequence[str]) -> Iterator[str]:
    best = curves.groupby("attack")[[*points]].max()
    rivals = curves["attack"].value_counts()
    for line in curves.to_dict("records"):
        cells = [escape(str(line["model"])), escape(str(line["attack"]))]
        for name in points:
            first = rivals[line["attack"]] > 1 and line[name] == best.loc[line["attack"], name]
            cells.append(_cell(line, name, first))
        cells += [_number(line["auc"]), f"{line['cases']} / {line['groups']}"]
        yield " & ".join(cells) + r" \\"


def _cell(line: Any, name: str, best: bool) -> str:
    text = _number(line[name])
    text = rf"\textbf{{{text}}}" if best else text
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return text if math.isnan(low) else rf"{text} {{\scriptsize [{low:.3f}, {high:.3f}]}}"


def _number(value: float) -> str:
    return "--" if math.isnan(value) else f"{value:.3f}"
