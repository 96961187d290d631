"""Post-processing by two thresholds (Yuan, Chao, Lo, IEEE TMI 2017).

A high threshold finds where an object certainly is, a low one how far it reaches; holes are filled.
The paper keeps the one object whose certain part is largest, marked by that part's centre; here
the part itself marks it, since the centre of a bent region can lie outside it.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HIGH = 0.8


def keep_confident_regions(
    probabilities: Tensor, regions: Literal["every", "largest"] = "every"
) -> Tensor:
    """Labels (B, *spatial) from class probabilities (B, K, *spatial).

    The low threshold is the argmax, which is 0.5 for two classes. Every foreground class is
    treated alone; a filled hole replaces background only. Where no pixel of a class passes the
    high threshold, the most likely region stands for the certain ones: a lost object would be
    an artefact of the thresholds.
    """
    labels = probabilities.argmax(1)  # (B, *spatial)
    kept = np.zeros(tuple(labels.shape), dtype=np.int64)
    winners = labels.cpu().numpy()
    likely = probabilities.detach().float().cpu().numpy()
    for case in range(len(kept)):
        for label in range(1, probabilities.shape[1]):
            mask = _confident(winners[case] == label, likely[case, label], regions)
            kept[case][mask & ((winners[case] == 0) | (winners[case] == label))] = label
    return torch.from_numpy(kept).to(labels.device)


def _confident(
    low: NDArray[np.bool_], likely: NDArray[np.float32], regions: Literal["every", "largest"]
) -> NDArray[np.bool_]:
    """The regions of `low` that hold a certain part, their holes filled."""
    from scipy import ndimage

    numbered, count = ndimage.label(low)
    if count == 0:
        return low
    numbers = np.arange(1, count + 1)
    certain = np.asarray(ndimage.sum_labels(likely > HIGH, numbered, numbers))
    mass = np.asarray(ndimage.sum_labels(likely, numbered, numbers))
    if regions == "largest" or not certain.any():
        chosen = numbers[[np.argmax(certain if certain.any() else mass)]]
    else:
        chosen = numbers[certain > 0]
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(np.isin(numbered, chosen))
    return filled
