"""segbench export: kept adversarial images as PNG, TIFF or NIfTI, read back and measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segbench.cli.options import SpecText, out_option, workspace_option
from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.store.workspace import Workspace, check_writable

if TYPE_CHECKING:
    from segbench.export.write import Written


@click.command("export")
@click.option(
    "-m", "--model", multiple=True, type=SpecText("models"), help="Only of these.  [default: all]"
)
@click.option(
    "-a", "--attack", multiple=True, type=SpecText("attacks"), help="Only of these.  [default: all]"
)
@click.option("--eps", multiple=True, help="Only at these: 2/255,8/255.  [default: all]")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The data set's folder, where it is not the remembered one.",
)
@out_option("export")
@workspace_option
def command(
    model: tuple[str, ...],
    attack: tuple[str, ...],
    eps: tuple[str, ...],
    data_root: Path | None,
    out: Path | None,
    workspace: Workspace,
) -> None:
    """Write the images that attack --save-adversarial kept, in the depth and units of their files.

    Each file is read back and its distance from the clean image measured anew: whole numbers are
    rounded towards the clean image, so a change of less than one level is gone. Values outside the
    window of a volume, or the range= of a picture, keep their file's own value plus the change; a
    reader with that window does not see it, and they are counted (outside). Of corruptions, motions
    and patches the image's own values are written wherever it has changed; what the window clips
    there, and everywhere in a case that was resized, is the window's end, and counted too
    (clipped). A file that lies further from the kept image than rounding explains is named
    (beyond).

    Where an image was moved its truth, which moved with it, is written beside it, in a folder that
    ends in -truth, in the mask values of the data. Of DICOM cases the network's labels are written
    too, as segmentations (SEG), but no moved truth. written.csv lists every file of images, with
    the options that read its truth.

    \b
    segbench attack --eps 2/255 --save-adversarial
    segbench export --out adversarial_images
    """
    from segbench.cli.consoles import messages
    from segbench.cli.evaluation import say_own_attacks
    from segbench.export.contents import Contents
    from segbench.export.write import choose_cells, export_cell
    from segbench.plugins.attack import load_attacks
    from segbench.plugins.spec import parse_eps_list
    from segbench.store.images import latest_cases

    folder = out or workspace.root / "export"
    say_own_attacks(attack)
    labels = [one.label for one in load_attacks(attack)]
    cells = choose_cells(workspace, model, labels, parse_eps_list(eps) if eps else [])
    data = {name: open_dataset(name, data_root) for name in {cell.dataset for cell in cells}}
    check_writable(folder)
    contents = {name: Contents(workspace, name, dataset) for name, dataset in data.items()}
    written: list[Written] = []
    refused: list[UserError] = []
    images, older = latest_cases(workspace, cells)
    for cell in cells:
        try:
            own = export_cell(cell, images[cell.key], contents[cell.dataset], folder)
            written.extend(own)
        except UserError as error:  # after those that it could write
            refused.append(error)
    if refused and not written:
        raise refused[0]
    _list(folder, written)
    if older:
        messages.print(
            f"{older} kept images are left out, since the same attack at the same budget made the "
            "same cases' once more, by other code or another precision",
            soft_wrap=True,
        )
    for name, dataset in sorted(data.items()):
        messages.print(f"{name}: {dataset.resize_rule}; files have that size", soft_wrap=True)
    _say_values(written)
    if moved := [file for file in written if file.moved]:
        _say_moved(moved, folder)
    _show(folder, written)
    if refused:
        raise refused[0]


def _say_values(written: Sequence[Written]) -> None:
    """Where the numbers in the files are not those of the kept images."""
    from segbench.cli.consoles import messages

    if outside := sum(file.outside for file in written):
        messages.print(
            f"{outside} values lie outside the intensity windows of their files: their change "
            "is in the files, but a reader with those windows clips it away",
            soft_wrap=True,
        )
    if clipped := sum(file.clipped for file in written):
        messages.print(
            f"{clipped} values of the data lie outside their intensity windows and are written as "
            "the windows' ends, where cases were resized or no ball bounds a change: "
            "distances are from the clipped images there, and written.csv counts them as clipped",
            soft_wrap=True,
        )
    if beyond := [file for file in written if file.beyond > 0]:
        worst = max(beyond, key=lambda file: file.beyond)
        messages.print(
            f"{len(beyond)} files lie further from the kept images than their rounding explains, "
            f"{worst.case_id} under {worst.attack} by {worst.beyond:.2g} of [0, 1]: the numbers of "
            "their sources do not go so far; written.csv names them under beyond",
            soft_wrap=True,
        )


def _say_moved(moved: Sequence[Written], folder: Path) -> None:
    """That the masks of the data do not fit images whose truth moved with them."""
    from segbench.cli.consoles import messages

    lacking = [file.case_id for file in moved if not file.truth]
    options = sorted({file.truth_options for file in moved if file.truth})
    ignored = sorted({file.truth_ignored for file in moved if file.truth_ignored})
    sentence = (
        f"{len(moved)} images were moved, and their truth with them: score them against the labels "
        f"that written.csv names under truth in {folder}, not against the masks of the data"
    )
    if options:
        sentence += f"; they are read with these options: {'; or '.join(options)}"
    if ignored:
        sentence += f"; ignored pixels are {', '.join(ignored)} there"
    if lacking:
        sentence += f"; none are written of {len(lacking)} of them, such as {lacking[0]}"
    messages.print(sentence, soft_wrap=True)


def _list(folder: Path, written: Sequence[Written]) -> None:
    from dataclasses import asdict

    from pandas import DataFrame

    from segbench.api import csv_text
    from segbench.atomic import write_atomically

    lines = [asdict(file) | {"path": str(file.path.relative_to(folder))} for file in written]
    write_atomically(folder / "written.csv", csv_text(DataFrame(lines)).encode())


def _show(out: Path, written: Sequence[Written]) -> None:
    """One line per folder: its files, and the largest distances among them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from segbench.cli.consoles import console
    from segbench.plugins.naming import eps_names

    table = Table(title="Written, read back and measured", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("folder", overflow="fold", min_width=24)
    for head in ("files", "budget", "linf", "left the ball"):
        table.add_column(head, justify="right")
    names = eps_names({(file.budget_kind, file.budget) for file in written})
    for folder in dict.fromkeys(file.path.parent for file in written):
        files = [file for file in written if file.path.parent == folder]
        left = sum(file.excess > 0 for file in files)
        inside = "-" if isnan(files[0].excess) else "0"
        table.add_row(
            str(folder.relative_to(out)),
            str(len(files)),
            f"{files[0].budget_kind} {names[files[0].budget_kind, files[0].budget]}",
            f"{max(file.linf for file in files):.5f}",
            f"{left}, by {max(file.excess for file in files):.2g} at most" if left else inside,
        )
    console.print(table)
