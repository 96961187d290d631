"""Kept adversarial images as files, read back and measured: what a file can hold of an attack."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from segbench.atomic import shown
from segbench.data.dicom_tree import is_dicom
from segbench.engine.warp import warped_labels
from segbench.errors import UserError
from segbench.export.contents import image_files
from segbench.export.dicom_files import series_values
from segbench.export.dicom_segmentation import write_predictions
from segbench.export.image_files import beyond_rounding, read_change, write_image
from segbench.export.own_values import file_values, outside, own_values
from segbench.export.truth_files import Truth, write_truth
from segbench.plugins.naming import eps_names, file_name, legal
from segbench.store.images import Attacked, KeptCell, kept_cells, load_images

if TYPE_CHECKING:
    from segbench.api import Case, Dataset
    from segbench.export.contents import Contents
    from segbench.store.workspace import Workspace

_ORDERS = {"linf": np.inf, "l2": 2.0, "l1": 1.0}
_BOUNDLESS = ("severity", "area")  # no ball keeps their changes small
_RELATIVE, _ROUNDING = 1e-6, 2.0**-24  # as the engine allows, see ball.py


@dataclass(frozen=True)
class Written:
    """One file, and how far it lies from the clean one: L-infinity and L2, in units of [0, 1].

    Of a case that was resized the clean one is its image, as its window clips it.

    Attributes:
        kept_linf: the distance of the float32 image that was kept.
        excess: by how much the file leaves the ball of the budget, in its own norm; 0 inside, and
            NaN where the budget is no ball.
        outside: how many values of its files lie outside their window and are in the file with
            their change on top; a reader with that window does not see their change.
        clipped: how many such values are lost: those of a case that was resized, and where values
            were replaced those that have changed, see ``own_values.py``.
        beyond: by how much more than its rounding explains the file lies from the image that was
            kept, in units of [0, 1]; 0 where that explains it.
        truth: of an image that was moved, where its truth moved with it, the file of that; "" of
            one that was not, or where no file holds it.
        truth_ignored: the value of what is ignored there; "" where nothing is.
        truth_options: of the data set that reads it, in words.
        moved: whether it was.
    """

    path: Path
    model: str
    attack: str
    budget_kind: str
    budget: float
    case_id: str
    kept_linf: float
    linf: float
    l2: float
    excess: float
    outside: int
    clipped: int
    beyond: float
    truth: str
    truth_ignored: str
    truth_options: str
    moved: bool


def choose_cells(
    workspace: Workspace,
    models: Sequence[str] = (),
    attacks: Sequence[str] = (),
    eps: Sequence[Fraction] = (),
) -> list[KeptCell]:
    """The cells with kept images of those models, attacks (labels) and budgets; () is all.

    Raises:
        UserError: there are none.
    """
    values = {float(value) for value in eps}
    kept = kept_cells(workspace)
    chosen = [
        cell
        for cell in kept
        if (not models or any(_names(text, cell.model) for text in models))
        and (not attacks or cell.attack in attacks)
        and (not values or cell.budget in values)
    ]
    if not chosen:
        there = {f"{cell.attack} at {cell.budget:g} on {cell.model}" for cell in kept}
        raise UserError(
            f"{shown(workspace.adversarial)} holds no such adversarial images (it holds "
            f"{', '.join(sorted(there)) or 'none'}); segbench attack --save-adversarial keeps them"
        )
    return chosen


def export_cell(
    cell: KeptCell, images: Mapping[str, Path], contents: Contents, out: Path
) -> Iterator[Written]:
    """Write a cell's images under ``out``, one after another, each read back and measured.

    Each is written for every case that holds what it was made of, whatever it was called then.

    Args:
        cell: whose images they are.
        images: ``Case.sha256`` -> the file that holds it; see ``latest_cases``.
        contents: of the data set.
        out: the folder.

    Raises:
        UserError: an image fits no file, or a case is gone, or was edited and not attacked since;
            the others are written.
        MachineError: the disk refused.
    """
    attack = legal(f"{cell.attack}-{_budget(cell)}")[:80]
    folder = out / file_name(cell.model) / f"{attack}-{cell.key[:8]}"
    kept: dict[Path, list[str]] = {}
    for content, file in images.items():
        kept.setdefault(file, []).append(content)
    found: set[str] = set()
    others: dict[str, str] = {}  # of cases that were edited since, perhaps attacked again
    for file, some in kept.items():
        attacked = load_images(file, some)
        for place, (content, case_id, image) in enumerate(
            zip(attacked.contents, attacked.case_ids, attacked.images.numpy(), strict=True)
        ):
            cases = list(contents.find(content, case_id))
            if not cases:
                others[case_id] = "missing" if contents.load(case_id) is None else "not the same"
            for case in cases:
                found.add(case.case_id)
                yield _write(folder, cell, attacked, place, image, case, contents.dataset)
    for case_id in sorted(others.keys() - found):
        raise UserError(
            f"the images of {cell.model} under {cell.attack} were made on another {cell.dataset} "
            f"(its case {case_id} is {others[case_id]}); name the folder they were made on with "
            "--data-root"
        )


def _write(
    folder: Path,
    cell: KeptCell,
    attacked: Attacked,
    place: int,
    image: NDArray[np.float32],
    case: Case,
    dataset: Dataset,
) -> Written:
    """One image (C, *spatial) as a file of a case, read back and measured."""
    replaced = cell.budget_kind in _BOUNDLESS
    files = image_files(dataset, case)
    path = write_image(folder, image, case, files, replaced=replaced)
    _write_predictions(path, attacked, place, case, cell.model)
    change = read_change(path, case, files, replaced=replaced)
    kept, lost = _beyond_window(case, files, image if replaced else None)
    truth = _write_truth(folder, attacked, place, case, dataset)
    return Written(
        path,
        cell.model,
        cell.attack,
        cell.budget_kind,
        cell.budget,
        case.case_id,
        kept_linf=_norm(image.astype(np.float64) - case.image, np.inf),
        linf=_norm(change, np.inf),
        l2=_norm(change, 2.0),
        excess=_excess(change, cell),
        outside=kept,
        clipped=lost,
        beyond=beyond_rounding(path, change, image, case),
        truth=truth.path.relative_to(folder.parent.parent).as_posix() if truth else "",
        truth_ignored=truth.ignored if truth else "",
        truth_options=truth.read_with if truth else "",
        moved=attacked.displacement is not None,
    )


def _write_truth(
    folder: Path, attacked: Attacked, place: int, case: Case, dataset: Dataset
) -> Truth | None:
    """The truth that moved with an image, in a folder beside that of the images."""
    if attacked.displacement is None:
        return None
    moves = attacked.displacement[place][None]
    moved = warped_labels(torch.from_numpy(case.labels)[None], moves)[0].numpy()
    return write_truth(folder.with_name(f"{folder.name}-truth"), moved, case, dataset)


def _beyond_window(
    case: Case, files: Sequence[Path], replacing: NDArray[np.float32] | None
) -> tuple[int, int]:
    """How many values of a case's own files its window clips: of those written, and of those lost.

    ``replacing`` is the image (C, *spatial) whose own values stand where it is not the clean one.
    """
    if case.source is not None and is_dicom(case.source):
        own: NDArray[np.float64] | None = series_values(case, case.source)
    else:
        own = own_values(case, files)
    if own is None:
        values = file_values(case, files) if case.intensity else None
        return 0, 0 if values is None else int(outside(values, case).sum())
    beyond = outside(own, case)
    if replacing is None:
        return int(beyond.sum()), 0
    return 0, int((beyond & (replacing != case.image)).sum())


def _write_predictions(
    folder: Path, attacked: Attacked, place: int, case: Case, model: str
) -> None:
    """Beside a derived series what the network made of its source and of the images before they
    were rounded to the series' whole numbers, where that is kept."""
    labels, clean = attacked.labels, attacked.clean_labels
    if labels is None or clean is None or case.source is None or not is_dicom(case.source):
        return
    pair = clean[place].numpy(), labels[place].numpy()
    write_predictions(folder, *pair, case, case.source, model)


def _names(text: str, model: str) -> bool:
    """Whether a text means a model: its name, or the spec that its checkpoint's begins with."""
    from segbench.training.card import checkpoint_name

    if text == model:
        return True
    try:
        return checkpoint_name(text, "any", 0).partition("@")[0] == model.partition("@")[0]
    except UserError:
        return False  # no spec, so the name of no checkpoint


def _excess(change: NDArray[np.float64], cell: KeptCell) -> float:
    if cell.budget_kind not in _ORDERS:
        return math.nan
    order = _ORDERS[cell.budget_kind]
    over = _norm(change, order) - cell.budget
    slack = _RELATIVE * cell.budget + _ROUNDING * change.size ** (1 / order)
    return over if over > slack else 0.0


def _norm(change: NDArray[np.float64], order: float) -> float:
    return float(np.linalg.norm(change.ravel(), order))


def _budget(cell: KeptCell) -> str:
    name = eps_names([(cell.budget_kind, cell.budget)])[cell.budget_kind, cell.budget]
    return name.replace("/", "of")
