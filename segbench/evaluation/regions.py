"""Where an attack may perturb a case: ``where=`` as a mask of its pixels.

Of the case's truth: ``inside`` is every pixel of a scored structure, ``outside`` every pixel of the
background, and ``border:R`` every pixel with one of another class at most R pixels away, centre to
centre, so R pixels on both sides of each outline. R counts pixels of the image as it is attacked,
whatever their spacing. What is ignored is on no side: nobody knows what it is, and nothing there
may change. ``mask:FOLDER`` is where the case's mask in that folder is not 0, be it ignored or not.
Outside the valid region of a case, where its data set knows one, nothing ever changes; but what
moves the whole image moves that region along with the truth, and is scored within it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.api import Case, WarpAttack, WholeImage
from segbench.errors import UserError
from segbench.evaluation.batch import Batch
from segbench.evaluation.grid import Cell
from segbench.evaluation.mask_files import case_mask
from segbench.plugins.where import border_radius, mask_folder


def cell_region(cell: Cell, batch: Batch) -> Tensor | None:
    """Where the cell's attack may change images; see ``region_of``. None for what moves them.

    Raises:
        UserError: the attack means something only on the whole image, and a case has a valid
            region; or see ``region_of``.
    """
    attack: object = cell.attack.attack if cell.attack else None
    if cell.attack is None or isinstance(attack, WarpAttack):
        return None
    if isinstance(attack, WholeImage) and any(case.valid is not None for case in batch.cases):
        raise UserError(
            f"{cell.label} cannot be confined to the valid regions of these data: "
            f"{attack.whole_image}"
        )
    return region_of(cell.attack.where, batch)


def region_of(where: str | None, batch: Batch) -> Tensor | None:
    """bool (B, 1, *spatial) on the device of the batch's images; None for everywhere.

    Raises:
        UserError: a case's mask is missing or does not fit, see ``mask_files.py``.
    """
    if where is None and all(case.valid is None for case in batch.cases):
        return None
    masks = np.stack([_allowed(where, case) for case in batch.cases])
    return torch.from_numpy(masks)[:, None].to(batch.images.device)


def _allowed(where: str | None, case: Case) -> NDArray[np.bool_]:
    """The same within the case's valid region."""
    everywhere = np.ones(case.labels.shape, bool)
    region = everywhere if where is None else case_region(where, case)
    return region if case.valid is None else region & case.valid


def case_region(where: str, case: Case) -> NDArray[np.bool_]:
    """The pixels (*spatial) of a case that may change; there may be none."""
    if folder := mask_folder(where):
        return case_mask(folder, case, 2).astype(bool)
    labels, ignored = _structures(case), case.ignore_index
    known = np.ones(labels.shape, bool) if ignored is None else np.not_equal(case.labels, ignored)
    if where == "inside":
        return known & np.greater(labels, 0)
    if where == "outside":
        return known & np.equal(labels, 0)
    return _border(labels, known, border_radius(where))


def _structures(case: Case) -> NDArray[np.int64]:
    """The labels; where structures overlap, a number for each set of them that a pixel is in.

    0 is none of them: what no structure is made of is background.
    """
    if case.regions is None:
        return case.labels
    found = np.zeros_like(case.labels)
    for s, part in enumerate(case.regions):
        found += np.isin(case.labels, part).astype(np.int64) << s
    return found


def _border(
    labels: NDArray[np.int64], known: NDArray[np.bool_], radius: float
) -> NDArray[np.bool_]:
    """Pixels at most ``radius`` away from a known one of another class."""
    from scipy import ndimage

    near = np.zeros(labels.shape, bool)
    for value in np.unique(labels[known]):
        own = known & (labels == value)
        near |= ~own & (ndimage.distance_transform_edt(~own) <= radius)
    return near & known
