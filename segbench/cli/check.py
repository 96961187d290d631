"""segbench check: the gate. Did a robustness score get worse than its golden reference?"""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.options import workspace_option
from segbench.store.workspace import Workspace


@click.command("check")
@click.option(
    "--golden",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="CSV of reference scores, committed beside your code.",
)
@click.option(
    "--tolerance",
    type=float,
    default=0.01,
    show_default=True,
    help="How much lower a score may be.",
)
@click.option("--all", "every", is_flag=True, help="Show unchanged scores too.")
@click.option("--update", is_flag=True, help="Write the golden file from the stored results.")
@workspace_option
@click.pass_context
def command(
    ctx: click.Context,
    golden: Path,
    tolerance: float,
    every: bool,
    update: bool,
    workspace: Workspace,
) -> None:
    """Compare the stored scores with a golden file; exit status 1 on any regression.

    \b
    segbench check --golden golden.csv --update      once, then commit golden.csv
    segbench check --golden golden.csv               in CI, after segbench attack
    """
    from segbench.cli import EXIT_REGRESSION
    from segbench.cli.consoles import coloured, console
    from segbench.cli.display import show_gate
    from segbench.tables.golden import (
        FAILURES,
        compare_golden,
        golden_table,
        read_golden,
        write_golden,
    )
    from segbench.tables.load import load_tables

    current = golden_table(load_tables(workspace, strict=True, depth="cases"))
    if update:
        write_golden(golden, current)
        console.print(f"wrote {len(current)} reference scores to {golden}", soft_wrap=True)
        return
    comparison = compare_golden(current, read_golden(golden), tolerance)
    show_gate(comparison, tolerance, every=every)
    failures = int(comparison["verdict"].isin(FAILURES).sum())
    if failures:
        said = coloured(f"{failures} of {len(comparison)} scores fail", "red", f" ({golden})")
        console.print(said, soft_wrap=True)
        ctx.exit(EXIT_REGRESSION)
    said = coloured("no regression", "green", f" in {len(comparison)} scores ({golden})")
    console.print(said, soft_wrap=True)
