"""segbench leaderboard: the networks of several workspaces, side by side where they may be."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.options import LocalPath, WorkspaceFolder
from segbench.store.workspace import Workspace


@click.command("leaderboard")
@click.argument("workspaces", nargs=-1, required=True, type=WorkspaceFolder(), metavar="DIR...")
@click.option(
    "--out",
    type=LocalPath(folder=True),
    default="leaderboard",
    show_default=True,
    help="Folder of leaderboard.html and leaderboard.csv.",
)
def command(workspaces: tuple[Workspace, ...], out: Path) -> None:
    """Merge workspaces into a leaderboard: a page and a CSV.

    A network is known by its weights and all that is put around it; what several workspaces know
    of it counts together, and of the same score that of the one named last. Networks have places
    only by what all of them met: the same attacks at the same budgets on the same cases.

    \b
    segbench leaderboard runs ../colleague/runs --out board
    """
    from segbench.cli.consoles import console
    from segbench.plugins.registry import load
    from segbench.plugins.report import write_report
    from segbench.tables.board import merged_tables

    tables = merged_tables(workspaces)
    for path in write_report(load("reports", "leaderboard"), tables, out):
        console.print(f"wrote {path}", soft_wrap=True)
