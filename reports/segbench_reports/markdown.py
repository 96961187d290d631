"""Markdown (GitHub's): one table per data set, then all that is needed to trust it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.api import TELLING, Tables, TransferMatrix
from segbench.atomic import write_atomically
from segbench.plugins.naming import point_names
from segbench_reports.certified import certified
from segbench_reports.markdown_text import escape, markdown_table
from segbench_reports.requested import requested
from segbench_reports.suites import Comparison, attacks_compared

if TYPE_CHECKING:
    from pandas import DataFrame

_BUDGETS = {
    "linf": "under an L∞ budget of eps, in fractions of the [0, 1] pixel range",
    "l2": "under an L2 budget of eps, in fractions of the [0, 1] pixel range",
    "l1": "under an L1 budget of eps, in fractions of the [0, 1] pixel range",
    "severity": "by severity of a corruption, 1 to 5",
    "area": "by area of the patch, as a fraction of the image",
    "certified": "certified up to an L2 radius, of the smoothed network",
    "none": "on clean images",
}
_BEST_ONLY = " Of so many networks only the pairs of the best; the CSV report has all of them."
_ABSENT = "-"
_LEVEL = 0.05
_SHORT = 12  # hexadecimal digits of a hash; the CSV report has them all

Row = dict[Hashable, Any]


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``report.md``; the same rows give the same bytes.

    Raises:
        MachineError: the disk refused.
    """
    path = directory / "report.md"
    write_atomically(path, render(tables).encode())
    return [path]


def render(tables: Tables) -> str:
    """The whole report as Markdown."""
    sections = [
        "# Adversarial robustness of segmentation networks",
        *_scores(tables.summary),
        *_compared([*certified(tables)]),
        *_distances(tables.distances),
        *_spreads(tables.seeds),
        *_comparisons(tables.comparisons),
        *_transfers(tables.transfers),
        *_compared([*requested(tables), *attacks_compared(tables)]),
        "## Notes",
        _bullets(map(escape, tables.notes)),
    ]
    if tables.attacks:
        sections += ["## Attacks", _bullets(_attacks(tables.attacks))]
    sections += ["## Provenance", *_provenance(tables.provenance)]
    return "\n\n".join(sections) + "\n"


def _scores(summary: DataFrame) -> Iterator[str]:
    """A heading per data set and split, a table per kind of budget."""
    for (dataset, split), part in summary.groupby(["dataset", "split"], sort=True):
        yield f"## {escape(str(dataset))}, {escape(str(split))} split"
        for kind, meaning in _BUDGETS.items():
            curves = part[part["budget_kind"] == kind]
            if not curves.empty and kind != "certified":  # they have a table of their own
                yield f"Mean Jaccard {meaning}, with its 95 % interval."
                yield markdown_table(*_score_table(curves))


def _spreads(seeds: DataFrame) -> Iterator[str]:
    """Networks of several training seeds, a line per curve."""
    if seeds.empty:
        return
    yield "## Over training seeds"
    yield (
        "Mean Jaccard ± standard deviation [least, greatest] over trainings that differ in their "
        "seed alone."
    )

    def cell(point: Row) -> str:
        return f"{point['mean']:.3f} ± {point['std']:.3f} [{point['min']:.3f}, {point['max']:.3f}]"

    jaccard = seeds[seeds["metric"] == "jaccard"]
    yield from _point_tables(jaccard, ["model"], ["Model"], cell, "seeds")


def _comparisons(comparisons: DataFrame) -> Iterator[str]:
    """Pairs of networks, a line per attack."""
    if comparisons.empty:
        return
    shown = comparisons[comparisons["main"]]
    yield "## Paired differences"
    yield (
        "Mean Jaccard of the first network minus that of the second on the same cases, with its "
        "95 % interval over groups; bold where exchanging the two, a group at a time, gives a "
        "difference as large with a chance of at most 5 %, corrected by Holm for all tests of the "
        "data set's tables here. A network of several training seeds enters as the mean over them."
        + (_BEST_ONLY if len(shown) < len(comparisons) else "")
    )
    yield from _too_few(shown)

    def cell(point: Row) -> str:
        text = f"{point['difference']:+.3f}"
        if math.isnan(point["low"]):
            return text
        text += f" [{point['low']:+.3f}, {point['high']:+.3f}]"
        return f"**{text}**" if point["p_holm"] <= _LEVEL else text

    yield from _point_tables(shown, ["model", "against"], ["Model", "Against"], cell, "cases")


def _too_few(shown: DataFrame) -> Iterator[str]:
    """Comparisons that cannot tell a small difference apart from none, and what they would need."""
    weak = shown[shown["groups_needed"] > shown["groups"]]
    if len(weak):
        least, most = int(weak["groups_needed"].min()), int(weak["groups_needed"].max())
        yield (
            f"{len(weak)} of {len(shown)} comparisons rest on too few groups to tell a difference "
            f"of {TELLING:g} apart from none four times in five; they would need "
            f"{least if least == most else f'{least} to {most}'}."
        )


def _point_tables(
    points: DataFrame,
    names: list[str],
    heads: list[str],
    cell: Callable[[Row], str],
    count: str,
) -> Iterator[str]:
    """Per data set, split and kind of budget one table: a line per names and attack, eps across.

    Args:
        points: a line per point of a curve.
        names: its columns that say whose line it is.
        heads: what these are called.
        cell: what is written at a point.
        count: its column that ends a line with its smallest value.
    """
    for (dataset, split, kind), part in points.groupby(["dataset", "split", "budget_kind"]):
        every = part.sort_values("budget", kind="stable")["eps"].unique()
        lines = []
        for key, curve in part.groupby([*names, "attack", "attack_params"], sort=True):
            cells = {point["eps"]: cell(point) for point in curve.to_dict("records")}
            line = [escape(str(name)) for name in key[:-1]]
            line += [cells.get(eps, _ABSENT) for eps in every]
            lines.append([*line, str(curve[count].min())])
        shown = ["clean" if eps == "0" else str(eps) for eps in every]
        yield f"{escape(str(dataset))}, {escape(str(split))} split, {_BUDGETS[str(kind)]}:"
        yield markdown_table([*heads, "Attack", *shown, count.capitalize()], lines)


def _transfers(transfers: Sequence[TransferMatrix]) -> Iterator[str]:
    """A matrix of targets (across) under the images of sources (down) per attack and eps."""
    for matrix in transfers:
        yield (
            f"Transfer on {escape(matrix.dataset)}, {escape(matrix.split)} split: mean Jaccard "
            f"of each network (across) on images made against another (down) by "
            f"{escape(matrix.attack)} at eps {matrix.eps}."
        )
        scores = matrix.scores
        lines = [
            [escape(str(source)), *(_number(value, "{:.3f}") for value in line)]
            for source, line in zip(scores.index, scores.to_numpy().tolist(), strict=True)
        ]
        yield markdown_table(["Source", *map(escape, scores.columns)], lines)


def _compared(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What was measured on request, how the attacks compare, and who won within suites."""
    for comparison in comparisons:
        yield f"## {comparison.title}"
        yield comparison.meaning
        lines = [[*map(escape, line)] for line in comparison.lines]
        yield markdown_table([*map(escape, comparison.heads)], lines)


def _score_table(curves: DataFrame) -> tuple[list[str], list[list[str]]]:
    """Heads and cells: model, attack, the points that any curve has, drop, area, cases."""
    points = [name for name in point_names(curves) if curves[name].notna().any()]
    attacked = points != ["clean"]
    marked = bool((curves["marks"] != "").any())
    heads = ["Model", "Attack", *points]
    kinds = set(curves["budget_kind"])
    largest = kinds.pop() if kinds in ({"severity"}, {"area"}) else "eps"
    heads += [f"Drop at largest {largest}", "AUC"] if attacked else []
    heads += ["Cases", "Marks"] if marked else ["Cases"]
    lines = []
    for row in curves.to_dict("records"):
        line = [escape(row["model"]), escape(row["attack"])]
        line += [_point(row, name) for name in points]
        if attacked:
            line += [_number(row["relative_drop"], "{:.1%}"), _number(row["auc"], "{:.3f}")]
        line.append(_cases(row))
        lines.append([*line, escape(row["marks"])] if marked else line)
    return heads, lines


def _point(row: Row, name: str) -> str:
    """``0.887 [0.879, 0.895]``; without brackets where there is no interval."""
    mean, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if math.isnan(low):
        return _number(mean, "{:.3f}")
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _number(value: float, form: str) -> str:
    return _ABSENT if math.isnan(value) else form.format(value)


def _cases(row: Row) -> str:
    if row["cases"] == row["groups"]:
        return str(row["cases"])
    return f"{row['cases']} in {row['groups']} groups"


def _distances(distances: DataFrame) -> Iterator[str]:
    """A table per data set and split of what minimum-norm attacks needed."""
    for (dataset, split), part in distances.groupby(["dataset", "split"], sort=True):
        yield f"## Distances, {escape(str(dataset))}, {escape(str(split))} split"
        yield (
            "The smallest distance at which a case's Jaccard (of a targeted attack 1 minus the "
            "agreement with its target) falls below the threshold; quantiles with their 95 % "
            "order-statistic interval over groups."
        )
        heads = ["Model", "Attack", "Norm", "Below", "Lower quartile", "Median", "Upper quartile"]
        lines = [
            [
                escape(row["model"]),
                escape(row["attack"]),
                row["norm"],
                f"{row['below']:g}",
                *(_distance(row, name) for name in ("quartile_low", "median", "quartile_high")),
                _fallen(row),
            ]
            for row in part.to_dict("records")
        ]
        yield markdown_table([*heads, "Cases that fell"], lines)


def _fallen(row: Row) -> str:
    """How many cases fell; of several attack seeds, how many (case, seed)."""
    several = f" x {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return f"{row['fell']} of {row['cases']}{several} ({row['fell_share']:.0%})"


def _distance(row: Row, name: str) -> str:
    """In gray levels for L-infinity, as eps is written; a dash where too few cases ever fell."""

    def written(value: float) -> str:
        if math.isinf(value):
            return "∞"
        return f"{255 * value:.2f}" if row["norm"] == "linf" else f"{value:.3f}"

    if math.isinf(row[name]):
        return _ABSENT
    text = written(row[name]) + ("/255" if row["norm"] == "linf" else "")
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return text if math.isnan(low) else f"{text} [{written(low)}, {written(high)}]"


def _attacks(attacks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for label, parameters in sorted(attacks.items()):
        settings = ", ".join(f"{key} = {value}" for key, value in sorted(parameters.items()))
        yield f"**{escape(label)}**: {escape(settings) or 'no parameters'}"


def _provenance(provenance: Mapping[str, Any]) -> Iterator[str]:
    """What was measured, on what, and by which software."""
    hashes = [
        [kind, escape(name), f"`{identity[:_SHORT]}`"]
        for kind, key in (("weights", "weights"), ("data", "datasets"))
        for name, identity in provenance.get(key, {}).items()
    ]
    yield markdown_table(["Of", "Name", "SHA-256"], hashes)
    trained = provenance.get("trainings", {})
    if trained:
        yield _bullets(f"{escape(name)}: {escape(how)}" for name, how in trained.items())
    facts = [
        ("Precision", provenance.get("precisions", [])),
        ("Device", provenance.get("devices", [])),
        ("Versions", [f"{k} {' and '.join(v)}" for k, v in provenance.get("versions", {}).items()]),
        ("Git commit", provenance.get("git_commits", [])),
    ]
    yield _bullets(f"{name}: {escape(', '.join(values))}" for name, values in facts if values)


def _bullets(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
