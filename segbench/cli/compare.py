"""segbench compare: two networks on the same cases, and whether they differ by more than chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from segbench.cli.options import workspace_option
from segbench.errors import UserError
from segbench.plugins.naming import CLEAN
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@workspace_option
def command(first: str, second: str, workspace: Workspace) -> None:
    """Compare two networks case by case: difference, chance, wins and losses.

    A and B are names of the report, or as much of them as only one network bears.

    \b
    segbench compare nlcen unet
    """
    from segbench.cli.summary import wrapped
    from segbench.cli.terminal import say
    from segbench.tables.load import load_tables

    tables = load_tables(workspace, pair=(first, second))
    for line in _shown(tables.comparisons):
        for text in [line] if line.startswith(" ") or not line else wrapped(line, 80):
            say(text)
    for note in tables.warnings:
        for text in wrapped(f"• {note}", 80):
            say(text)


def _shown(lines: DataFrame) -> Iterator[str]:
    """A block per data set, in it one per attack, a line per budget."""
    from segbench.metrics.permutation import LEVEL

    if lines.empty:
        raise UserError("these two networks share no case under the same attack; nothing is paired")
    for (dataset, split), part in lines.groupby(["dataset", "split"], sort=True):
        model, against = part["model"].iloc[0], part["against"].iloc[0]
        yield f"{model} minus {against}, mean Jaccard on {dataset}, {split} split"
        yield _line("eps", "difference", "", "p", "win/tie/loss", "groups")
        attack = CLEAN
        for point in part.to_dict("records"):
            if point["attack"] != attack:
                attack = str(point["attack"])
                yield f"  {attack}"
            yield _line(*_cells(point))
        if part["tests"].iloc[0]:
            yield (
                f"p: exchanging the two at random, a group at a time, corrected by Holm for these "
                f"{part['tests'].iloc[0]} tests; * at most {LEVEL:g}."
            )
        else:
            yield "Nothing was tested: no two groups, such as patients, have both networks' scores."
        if (part["doubt"] != "").any():
            yield (
                "° its interval may cover less than it claims: few groups, a width that very few "
                "patients make, or too small a sample for rare failures to show."
            )
        weak = part[part["groups_needed"] > part["groups"]]
        if len(weak):
            yield (
                f"{len(weak)} of {len(part)} rest on too few groups to tell a difference of 0.02 "
                f"apart; up to {weak['groups_needed'].max()} would be needed."
            )
        yield ""


def _cells(point: dict[Any, Any]) -> Iterator[str]:
    from segbench.metrics.permutation import LEVEL

    told = point["p_holm"] <= LEVEL
    yield "clean" if point["eps"] == "0" else str(point["eps"])
    yield f"{point['difference']:+.3f}{'*' if told else ''}{'°' if point['doubt'] else ''}"
    low, high = point["low"], point["high"]
    yield "" if low != low else f"[{low:+.3f}, {high:+.3f}]"
    yield "–" if point["p_holm"] != point["p_holm"] else f"{point['p_holm']:.3f}"
    yield f"{point['wins']}/{point['ties']}/{point['losses']}"
    yield str(point["groups"])


def _line(eps: str, *cells: str) -> str:
    """A point; with the name of its attack above it, it fits into 80 columns."""
    sizes = (12, 19, 8, 14, 8)
    return f"    {eps:<10}" + "".join(
        cell.rjust(size) for cell, size in zip(cells, sizes, strict=True)
    )
