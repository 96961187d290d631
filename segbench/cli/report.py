"""segbench report: all stored rows, on the terminal, as a page and in files."""

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
    default=("html", "markdown", "csv"),
    show_default=True,
    type=SpecText("reports"),
    help="Report format (see segbench list reports). Repeatable.",
)
@out_option("reports")
@click.option("--all-weights", is_flag=True, help="Also networks that bore the same name before.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in your browser.")
@workspace_option
def command(
    format: tuple[str, ...],
    out: Path | None,
    all_weights: bool,
    open_page: bool,
    workspace: Workspace,
) -> None:
    """Show the robustness of every attacked network and write it to files.

    \b
    segbench report
    segbench report --open
    segbench report -f markdown -f csv --out tables/
    """
    import webbrowser

    from segbench.cli.reporting import write_reports

    directory = out or workspace.reports
    written = write_reports(format, workspace, directory, show=True, all_weights=all_weights)
    pages = [path for path in written if path.suffix == ".html"]
    if open_page and pages:
        webbrowser.open(pages[0].resolve().as_uri())
