"""segbench report: the table of all stored rows, on the terminal and in files."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.options import SpecText, workspace_option


@click.command("report")
@click.option(
    "-f",
    "--format",
    "formats",
    multiple=True,
    default=("markdown", "csv"),
    show_default=True,
    type=SpecText("reports"),
    help="Report format (see segbench list reports). Repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the files.  [default: WORKSPACE/reports]",
)
@click.option("--all-weights", is_flag=True, help="Also rows of weights since replaced.")
@workspace_option
def command(
    formats: tuple[str, ...], out: Path | None, all_weights: bool, workspace: Path
) -> None:
    """Show the robustness of every attacked network and write it to files.

    \b
    segbench report
    segbench report -f markdown -f csv --out tables/
    """
    from segbench.cli.display import console, show_summary
    from segbench.cli.evaluation import load_tables
    from segbench.registry import load

    writers = [load("reports", name) for name in formats]
    tables = load_tables(workspace, all_weights)
    show_summary(tables)
    directory = out or workspace / "reports"
    for writer in writers:
        for path in writer.target(tables, directory):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
