"""Figures for a paper: curves and pictures as PDF, SVG and PNG, by matplotlib.

No titles inside, one style file, colours that people with any colour vision can tell apart, text
that stays text. The same rows give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.api import Picture, Tables, plain
from segbench.atomic import write_atomically
from segbench.errors import UserError
from segbench.plugins.naming import file_name
from segbench_reports.page.counted import counted, of_network, proofs, side_by_side
from segbench_reports.page.pictures import diverging, outlined
from segbench_reports.page.words import NORMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from segbench_reports.page.svg import Value

STYLE = Path(__file__).with_name("paper.mplstyle")
_FORMATS = ("pdf", "svg", "png")
_NO_DATE: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
_WIDE = 34  # characters beneath a picture
_LINES = ("-", "--", ":", "-.")
_WEIGHTS: dict[str, dict[str, Any]] = {
    "strong": {"linewidth": 1.8, "zorder": 3},
    "": {"linewidth": 1.0},
    "faint": {"linewidth": 0.7, "alpha": 0.6},
}
_GALLERY = 6  # pictures of a figure
_CHARACTERS, _HANDLE, _LINE = 68, 6, 0.12  # of a legend: across, of a sample; inches of a line
_TRUTH, _CLEAN, _ATTACKED = (0, 158, 115), (86, 180, 233), (213, 94, 0)


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``figures/*.pdf``, ``.svg`` and ``.png``: curves of all networks and of each, pictures.

    Raises:
        UserError: matplotlib is not installed.
        MachineError: the disk refused.
    """
    try:
        import matplotlib
        import matplotlib.style
    except ImportError:
        raise UserError(
            "figures are drawn by matplotlib, which is absent; pip install 'segbench[figures]'"
        ) from None
    written = []
    with matplotlib.rc_context(), matplotlib.style.context(STYLE):
        names = set[str]()
        for parts, figure in _figures(tables):
            name = _name(parts, names)
            for kind in _FORMATS:
                file = io.BytesIO()
                figure.savefig(file, format=kind, metadata=_NO_DATE[kind])
                path = directory / "figures" / f"{name}.{kind}"
                write_atomically(path, file.getvalue())
                written.append(path)
    return written


def _name(parts: Sequence[str], taken: set[str]) -> str:
    """The name of a figure, and of no other one on file systems that know no case."""
    name = file_name("-".join(parts))
    if name.casefold() in taken:
        name = file_name("\0".join(parts))
    taken.add(name.casefold())
    return name


def _figures(tables: Tables) -> Iterator[tuple[tuple[str, ...], Figure]]:
    """Figures with what they are of: the data set, its split and so on."""
    pairs = tables.summary[["dataset", "split"]].drop_duplicates().sort_values(["dataset", "split"])
    for dataset, split in pairs.itertuples(index=False, name=None):
        for kind in NORMS:
            curves = counted(tables, dataset, split, kind)
            frames = side_by_side(tables, dataset, split, kind, len(curves))
            for number, frame in enumerate(frames, 1):
                name = "worst" if number == 1 else f"worst-{number}"
                strong = set(frame.curves) - set(frame.faint)
                figure = _curves(frame.curves, kind, strong, frame.faint, said=frame.under)
                yield (dataset, split, kind, name), figure
            if kind == "l2":
                for model, proved in proofs(tables, dataset, split).items():
                    figure = _curves(proved, kind, set(proved))
                    yield (dataset, split, "certified", model), figure
            for model in curves:
                own = of_network(tables, dataset, split, kind, model)
                if len(own.curves) > 1:
                    figure = _curves(own.curves, kind, own.strong, own.faint, bands=False)
                    yield (dataset, split, kind, model), figure
        shown = [p for p in tables.pictures if (p.dataset, p.split) == (dataset, split)]
        worst = [picture for picture in shown if picture.kind == "worst"] or shown
        if worst:
            yield (dataset, split, "pictures"), _gallery(_in_turn(worst)[:_GALLERY])


def _curves(
    curves: Mapping[str, Sequence[Value]],
    kind: str,
    strong: Collection[str],
    faint: Collection[str] = (),
    *,
    bands: bool = True,
    said: str = "",
) -> Figure:
    """Curves in one frame; ``bands`` around the strong ones, ``said`` beside the axis of eps."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    names: dict[float, str] = {}
    for number, (name, values) in enumerate(curves.items()):
        at = [value.budget for value in values]
        names |= {value.budget: "0" if value.budget == 0 else value.name for value in values}
        style = _LINES[number // 7 % len(_LINES)]
        weight = _WEIGHTS["strong" if name in strong else "faint" if name in faint else ""]
        means, label = [v.mean for v in values], _text(name)
        (line,) = axes.plot(at, means, style, marker="o", label=label, **weight)
        sure = [value for value in values if not math.isnan(value.low)]
        if bands and name in strong and len(sure) > 1:
            axes.fill_between(
                [v.budget for v in sure], [v.low for v in sure], [v.high for v in sure],
                color=line.get_color(), alpha=0.15, linewidth=0,
            )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.set_xticks(sorted(names), [names[at] for at in sorted(names)], rotation=45, ha="right")
    axes.set_xlabel(f"eps ({NORMS[kind]}{said})")
    axes.set_ylabel("mean Jaccard")
    columns = _legend(figure, len(curves), max(map(len, curves)))
    figure.legend(loc="outside lower center", ncols=columns, borderaxespad=0.2)
    return figure


def _legend(figure: Figure, lines: int, longest: int) -> int:
    """How many columns a legend has beneath the axes; the figure is made as much higher."""
    columns = max(1, min(3, lines, _CHARACTERS // (longest + _HANDLE)))
    width, height = figure.get_size_inches()
    room = max(1.0, (longest + _HANDLE) / _CHARACTERS)  # names that are wider than a column
    figure.set_size_inches(width * room, height * room**0.5 + _LINE * -(-lines // columns))
    return columns


def _in_turn(pictures: Sequence[Picture]) -> list[Picture]:
    """The first of each network, then the second of each."""
    seen: dict[str, int] = {}
    turns = []
    for picture in pictures:
        seen[picture.model] = seen.get(picture.model, 0) + 1
        turns.append(seen[picture.model])
    order = sorted(range(len(pictures)), key=lambda place: (turns[place], place))
    return [pictures[place] for place in order]


def _gallery(pictures: Sequence[Picture]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 1.7 * len(pictures)))
    for row, picture in enumerate(pictures):
        plane = picture.planes[0]
        views = (
            outlined(plane["clean"], [(plane["label"], _TRUTH), (plane["clean_labels"], _CLEAN)]),
            outlined(
                plane["adversarial"],
                [(plane["adversarial_label"], _TRUTH), (plane["adversarial_labels"], _ATTACKED)],
            ),
            diverging(plane["change"]),
        )
        words = (
            f"{_shortened(picture.model)},\n{_shortened(picture.case_id)}",
            f"{picture.attack}, {picture.eps}",
            f"change, ±{255 * picture.scale:.2g}/255" if picture.scale else "no change",
        )
        for column, (view, word) in enumerate(zip(views, words, strict=True)):
            axes = figure.add_subplot(len(pictures), 3, 3 * row + column + 1)
            axes.imshow(view, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(_text(word))
    return figure


def _shortened(name: str) -> str:
    """A name as long as a picture is wide."""
    return name if len(name) <= _WIDE else f"{name[: _WIDE - 1]}…"


def _text(text: str) -> str:
    """As it is: a dollar sign begins no formula, an underscore does not hide a line."""
    return "\u200b" * text.startswith("_") + plain(text).replace("$", r"\$")
