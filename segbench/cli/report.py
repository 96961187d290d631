"""segbench report: the table of all stored rows, on the terminal and in files."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.options import SpecText, out_option, workspace_option
from segbench.store.workspace import Workspace


@click.command("report")
@click.option(
    "-f",
    "--format",
    multiple=True,
    default=("markdown", "csv"),
    show_default=True,
    type=SpecText("reports"),
    help="Report format (see segbench list reports). Repeatable.",
)
@out_option("reports")
@click.option("--all-weights", is_flag=True, help="Also networks that bore the same name before.")
@workspace_option
def command(
    format: tuple[str, ...], out: Path | None, all_weights: bool, workspace: Workspace
) -> None:
    """Show the robustness of every attacked network and write it to files.

    \b
    segbench report
    segbench report -f markdown -f csv --out tables/
    """
    from segbench.cli.reporting import write_reports

    directory = out or workspace.reports
    write_reports(format, workspace, directory, show=True, all_weights=all_weights)
