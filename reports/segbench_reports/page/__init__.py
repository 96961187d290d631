"""One self-contained page: the answer, curves, tables, pictures and what stands behind them.

``report.html`` loads nothing: style, script and pictures are within it, and its content policy
allows no more. Names are escaped by the templates wherever they stand, and control characters and
marks of direction are written out. Without its script every number is still there.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from segbench.api import TELLING, Tables, plain
from segbench.atomic import write_atomically
from segbench_reports.certified import certified
from segbench_reports.page import parts, pictures, room, standing, svg, words
from segbench_reports.requested import requested
from segbench_reports.suites import attacks_compared

_TEMPLATES = Path(__file__).parent / "templates"
_OPEN = 12  # warnings that are not folded; what segbench diagnose found never is


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``report.html``; the same rows give the same bytes.

    Raises:
        MachineError: the disk refused.
    """
    path = directory / "report.html"
    write_atomically(path, render(tables).encode())
    return [path]


def render(tables: Tables) -> str:
    """The whole page."""
    style, script = _read("page.css"), _read("page.js")
    pairs = tables.summary[["dataset", "split"]].drop_duplicates().sort_values(["dataset", "split"])
    data = [_data(tables, *pair) for pair in pairs.itertuples(index=False, name=None)]
    gallery, left_out = pictures.choose(tables.pictures, room.for_pictures(data))
    above = {*tables.warnings, *(tables.examined if tables.warnings else ())}  # in a box
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            data=data,
            tables=tables,
            gallery=gallery,
            pictures_left_out=left_out,
            notes=room.first([n for n in tables.notes if n not in above], room.SENTENCES),
            transfers=room.first([_matrix(one) for one in tables.transfers], _matrices(tables)),
            costs=room.first(tables.costs.to_dict("records")),
            certificates=[(one, *room.first(one.lines)) for one in certified(tables)],
            comparisons=[
                (one, *room.first(one.lines))
                for one in (*requested(tables), *attacks_compared(tables))
            ],
            seeds=room.first(_seeds(tables)),
            telling=TELLING,
            most_open=_OPEN,
            most_sentences=room.SENTENCES,
            most_ranks=room.RANKS,
            frame=svg,
        )
    )


def render_board(tables: Tables) -> str:
    """A page of the one number alone: each data set, version, split and kind apart."""
    style, script = _read("page.css"), _read("page.js")
    page: str = (
        _environment()
        .get_template("board.html.j2")
        .render(
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            boards=[*standing.boards_of(tables)],
            notes=tables.notes,
        )
    )
    return page


def _data(tables: Tables, dataset: str, split: str) -> dict[str, Any]:
    """What the page shows of one data set."""
    own = words.of_data(tables.summary, dataset, split)
    kinds = [kind for kind in words.KINDS if (own["budget_kind"] == kind).any()]
    differences = parts.differences(tables, dataset, split)
    models = room.framed(tables, dataset, split)
    scores = [parts.scores(tables, dataset, split, kind) for kind in kinds]
    return {
        "name": dataset,
        "split": split,
        "answer": [*words.answer(tables, dataset, split)],
        "hero": [*parts.hero(tables, dataset, split)],
        "framed": len(models),
        "networks": own["model"].nunique(),
        "panels": [*parts.panels(tables, dataset, split, models)],
        "proved": [*parts.proved(tables, dataset, split)],
        "survival": [*parts.survival(tables, dataset, split)],
        "scores": [(table, *_in_cells(table)) for table in scores],
        "spreads": parts.spreads(tables, dataset, split, models),
        "structures": room.first(parts.structures(tables, dataset, split)),
        "tests": differences[0]["tests"] if differences else 0,
        "differences": room.first(differences),
        "compared": len(differences),
        "weak": sum(line["groups_needed"] > line["groups"] for line in differences),
        "ranks": room.first(parts.ranks(tables, dataset, split)),
        "distances": room.first(words.of_data(tables.distances, dataset, split).to_dict("records")),
    }


def _in_cells(table: dict[str, Any]) -> tuple[Sequence[Any], int]:
    """The rows of a table of scores that there is room for, and how many are left out."""
    return room.first(table["rows"], room.CELLS // len(table["heads"]))


def _matrices(tables: Tables) -> int:
    """How many transfer matrices there is room for, each as large as the largest."""
    return room.CELLS // max((one.scores.size for one in tables.transfers), default=1)


def _matrix(matrix: Any) -> dict[str, Any]:
    """A transfer matrix with the shade of every cell, 0 to 10."""
    scores = matrix.scores
    return {
        "matrix": matrix,
        "rows": [
            (source, [(words.number(v), 6 if math.isnan(v) else round(10 * v)) for v in line])
            for source, line in zip(scores.index, scores.to_numpy().tolist(), strict=True)
        ],
    }


def _seeds(tables: Tables) -> list[dict[Any, Any]]:
    if tables.seeds.empty:
        return []
    jaccard = tables.seeds[tables.seeds["metric"] == "jaccard"]
    return jaccard.to_dict("records")


def _policy(style: str, script: str) -> str:
    """Nothing but this very style and this very script, and pictures that lie in the page."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {"num": words.number, "percent": lambda share: f"{share:.0%}"}
    environment.globals |= {"interval": words.interval, "budget": words.budget}
    return environment


def _finalize(value: Any) -> Any:
    """Texts without what a terminal or a browser would obey; markup of the templates as it is."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
