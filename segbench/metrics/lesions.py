"""Lesion-wise detection, on request: which components of a structure are found or made up.

A lesion is a connected component of the label, neighbours across corners among them (8 in two
dimensions, 26 in three). A component of the prediction may stand for a lesion where the two overlap
by more than a stated intersection over union; each stands for at most one, and as many are paired
as can be (a maximum matching). From 0.5 on a component has at most one partner to choose: there it
is the matching of panoptic quality, and F1 its recognition quality (Kirillov et al., Panoptic
Segmentation, CVPR 2019). At 0 any common pixel will do, and still nothing is counted twice, unlike
in the lesion-wise rates of the ISBI challenge, where one large component may find every lesion
(Carass et al., NeuroImage 148, 2017). Matching by overlap is what Metrics Reloaded asks of object
detection by masks (Maier-Hein et al., Nature Methods 21, 2024), 0.1 a usual threshold where lesions
are small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

COUNTS = ("lesions", "lesions_found", "lesions_false")
"""Components of the label, those of them that are found, and components predicted that are none."""

Mask = NDArray[np.bool_]


def lesion_counts(
    predicted: Tensor, truth: Tensor, valid: Tensor, overlap: float
) -> list[dict[str, float]]:
    """``COUNTS`` of each class of one case, and the overlap they were counted at.

    Args:
        predicted: bool (S, *spatial), a mask per class, background left out.
        truth: bool (S, *spatial).
        valid: bool (S, *spatial): where the truth is known; elsewhere there is nothing.
        overlap: in [0, 1), the intersection over union that a pair must exceed.
    """
    pairs = zip((predicted & valid).cpu().numpy(), (truth & valid).cpu().numpy(), strict=True)
    found = []
    for mask, own in pairs:
        counts = dict(zip(COUNTS, map(float, count(mask, own, overlap)), strict=True))
        found.append({**counts, "lesion_overlap": overlap})
    return found


def count(mask: Mask, truth: Mask, overlap: float) -> tuple[int, int, int]:
    """``COUNTS`` of one class; ``mask`` and ``truth`` are bool (*spatial)."""
    from scipy.ndimage import generate_binary_structure, label  # few runs count lesions
    from scipy.sparse.csgraph import maximum_bipartite_matching

    near = generate_binary_structure(truth.ndim, truth.ndim)
    lesions, number = label(truth, near)
    parts, predicted = label(mask, near)
    shared = overlaps(lesions, parts, number, predicted)
    matched = int((maximum_bipartite_matching(shared > overlap) >= 0).sum()) if shared.nnz else 0
    return number, matched, predicted - matched


def overlaps(
    lesions: NDArray[np.integer[Any]], parts: NDArray[np.integer[Any]], number: int, predicted: int
) -> Any:
    """Intersection over union of every two components that touch: sparse (number, predicted).

    ``lesions`` and ``parts`` (*spatial) number their components from 1; 0 is background.
    """
    from scipy.sparse import coo_matrix

    both = (lesions > 0) & (parts > 0)
    pairs, common = np.unique(
        np.stack([lesions[both], parts[both]]), axis=1, return_counts=True
    )  # (2, P), (P,)
    own = np.bincount(lesions.ravel(), minlength=number + 1)
    others = np.bincount(parts.ravel(), minlength=predicted + 1)
    union = own[pairs[0]] + others[pairs[1]] - common
    return coo_matrix(
        (common / union, (pairs[0] - 1, pairs[1] - 1)), shape=(number, predicted)
    ).tocsr()
