"""segbench check: the gate. Did a robustness score get worse than its golden reference?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segbench.cli.options import LocalPath, workspace_option
from segbench.errors import UserError
from segbench.store.garbage import importing
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from segbench.tables.gate import Gate


@click.command("check")
@click.option(
    "--golden",
    type=LocalPath(folder=False),
    help="CSV of reference scores, committed beside your code.",
)
@click.option(
    "--tolerance",
    type=float,
    default=0.01,
    show_default=True,
    help="How much lower a mean score may be.",
)
@click.option("--all", "every", is_flag=True, help="Show unchanged scores too.")
@click.option(
    "--update",
    is_flag=True,
    help="Write the golden file, and its cases beside it, from the stored results.",
)
@click.option(
    "--format",
    type=click.Choice(["terminal", "github", "junit"]),
    default="terminal",
    show_default=True,
    help="github: annotations, and the job's summary; junit: XML on standard output.",
)
@click.option(
    "--badge",
    type=LocalPath(folder=False),
    help="Write the JSON of a shields.io endpoint badge.",
)
@click.option(
    "--plan",
    "planned",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Only say what is missing of a grid file and will cost here, as segbench run --plan does.",
)
@click.option(
    "--validate",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    help="Only read golden files and grid files and say whether they are right. Repeatable.",
)
@workspace_option
@click.pass_context
def command(
    ctx: click.Context,
    golden: Path | None,
    tolerance: float,
    every: bool,
    update: bool,
    format: str,
    badge: Path | None,
    planned: Path | None,
    validate: tuple[Path, ...],
    workspace: Workspace,
) -> None:
    """Compare the stored scores with a golden file; exit status 1 if one does not hold.

    Case by case where the golden file has cases: a regression is a mean drop beyond the tolerance
    that is more than chance, corrected for all scores of the file. A score that has become doubtful
    since, of an attack that is stuck for instance, does not pass, however high it is.

    \b
    segbench check --golden golden.csv --update      once, then commit golden.csv and its cases
    segbench check --golden golden.csv               in CI, after segbench attack
    segbench check --validate golden.csv --validate grid.toml
    segbench check --plan grid.toml                  what it will cost
    """
    from segbench.cli import EXIT_REGRESSION
    from segbench.cli.consoles import console

    if validate:
        for path in validate:
            what, *gaps = _validated(path)
            console.print(f"{path}: {what}", soft_wrap=True)
            for gap in gaps:
                console.print(f"Note: {gap}", soft_wrap=True)
        return
    if planned:
        from segbench.cli.evaluation import with_trained
        from segbench.cli.planning import plan
        from segbench.evaluation.grid_file import load_grid_file

        for line in plan(with_trained(load_grid_file(planned)), workspace):
            console.print(line, soft_wrap=True)
        return
    if golden is None:
        raise UserError("segbench check needs --golden FILE, --validate FILE or --plan FILE")
    if update:
        console.print(_update(golden, workspace), soft_wrap=True)
        return
    gate = _compared(golden, tolerance, workspace)
    _write_first(gate, format, badge)
    _say(gate, golden, tolerance, format, every)
    if gate.failed:
        ctx.exit(EXIT_REGRESSION)


def _validated(path: Path) -> Sequence[str]:
    """What a file is, once it is known to be right, and what it does not say."""
    if path.suffix == ".toml":
        from segbench.evaluation.grid_file import load_grid_file

        load_grid_file(path)
        return ["a grid"]
    from segbench.tables.golden import read_golden
    from segbench.tables.golden_cases import case_file, read_cases
    from segbench.tables.golden_gaps import by_case, describe_gaps, describe_nameless
    from segbench.tables.verdicts import require_agreement

    if path.suffix == ".jsonl":
        alone = read_cases(path) or {}
        return [f"{len(alone)} scores by case", *describe_nameless(alone)]
    rows, cases = read_golden(path), read_cases(case_file(path))
    require_agreement(rows, cases or {})
    own = f", {by_case(rows, cases)} of them by case" if cases else ""
    return [f"{len(rows)} golden scores{own}", *describe_gaps(rows, cases)]


def _update(golden: Path, workspace: Workspace) -> str:
    with importing():
        from segbench.tables.golden import KEY, golden_table, write_golden
        from segbench.tables.golden_cases import case_file, scores_by_case, write_cases
        from segbench.tables.golden_names import is_told_apart
        from segbench.tables.load import load_tables

    tables = load_tables(workspace, strict=True, depth="cases")
    current = golden_table(tables)
    write_golden(golden, current)
    empty = len(tables.cases[[*KEY[:-1]]].drop_duplicates())
    empty -= len(current[[*KEY[:-1]]].drop_duplicates())
    write_cases(case_file(golden), scores_by_case(tables))
    told_apart = current[["model", "dataset"]].map(is_told_apart)
    shared = int(told_apart.any(axis="columns").sum())
    marks = sorted({word.partition("=")[0] for own in current["marks"] for word in own.split()})
    doubtful = int((current["marks"] != "").sum())
    warned = (
        f"; {doubtful} of them are marked {' or '.join(marks)}: do not trust them as they stand"
    )
    return (
        f"wrote {len(current)} reference scores to {golden}, and their cases to {case_file(golden)}"
        + (warned if doubtful else "")
        + (
            f"; {shared} of them bear a hash in their names, as two networks or data sets share "
            "one, and are not found again once these are trained or edited anew"
            if shared
            else ""
        )
        + (f"; {empty} points have none, as no label of theirs has foreground" if empty else "")
    )


def _compared(golden: Path, tolerance: float, workspace: Workspace) -> Gate:
    with importing():
        from segbench.tables.gate import hold_gate
        from segbench.tables.golden import read_golden
        from segbench.tables.golden_cases import case_file, read_cases
        from segbench.tables.load import load_tables

    expected, then = read_golden(golden), read_cases(case_file(golden))
    tables = load_tables(workspace, strict=True, depth="cases")
    return hold_gate(tables, expected, then, tolerance)


def _write_first(gate: Gate, format: str, badge: Path | None) -> None:
    """Files before a word is printed: a reader that leaves takes none of them along."""
    from segbench.atomic import write_atomically
    from segbench.cli import gate_formats

    if badge:
        write_atomically(badge, gate_formats.badge(gate).encode())
    summary = os.environ.get("GITHUB_STEP_SUMMARY") if format == "github" else None
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(gate_formats.github_summary(gate))


def _say(gate: Gate, golden: Path, tolerance: float, format: str, every: bool) -> None:
    from segbench.cli import gate_formats
    from segbench.cli.consoles import coloured, console
    from segbench.cli.display import show_gate

    if format == "junit":
        click.echo(gate_formats.junit(gate), nl=False)
        return
    if format == "github":
        for line in gate_formats.github_annotations(gate, str(golden)):
            click.echo(line)
    else:
        show_gate(gate.comparison, tolerance, every=every)
        for remark in gate.remarks:
            console.print(f"Note: {remark.removesuffix('.')}")
    colour = "red" if gate.failed else "yellow" if gate.marked else "green"
    console.print(coloured(gate.verdict, colour, f" ({golden})"), soft_wrap=True)
