"""Reports of a workspace, shown and written: what report, run and demo share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.store.garbage import importing

if TYPE_CHECKING:
    from segbench.store.workspace import Workspace


def write_reports(
    formats: Sequence[str],
    workspace: Workspace,
    directory: Path,
    *,
    show: bool = False,
    all_weights: bool = False,
) -> list[Path]:
    """Write each format's files into a folder, then say so; with ``show``, after the summary."""
    if not formats and not show:
        return []  # of a large store tables take seconds

    with importing():
        from segbench.cli.consoles import console
        from segbench.cli.summary import show_summary
        from segbench.plugins.registry import load
        from segbench.plugins.report import write_report
        from segbench.tables.load import load_tables

        writers = [load("reports", name) for name in formats]
    tables = load_tables(workspace, every=all_weights)
    written = [path for writer in writers for path in write_report(writer, tables, directory)]
    if show:
        show_summary(tables)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)
    return written
