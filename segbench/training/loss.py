"""The default training loss: cross-entropy plus soft Dice, deeply supervised where offered.

Soft Dice is that of Milletari et al. (V-Net, 3DV 2016, arXiv 1606.04797) with plain sums in the
denominator, as in nnU-Net. MONAI's DiceCELoss learnt to ignore a label only in its 1.6; this one
ignores -100 at every supported version.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.errors import MachineError

IGNORED = -100
"""The label of pixels that are not trained on, whatever the data set's own ignore index."""


def supervised_loss(
    outputs: Any, labels: Tensor, *, dice_weight: float, aux_weight: float
) -> Tensor:
    """The loss of the logits plus ``aux_weight`` times the mean loss of the auxiliary logits.

    ``outputs`` is what a network returns in training mode: logits (B, K, *spatial), or a pair of
    them and a list of auxiliary ones, which may be coarser and are then upsampled. Labels are
    int64 (B, *spatial). The result is a float32 scalar.

    Raises:
        MachineError: the network returned anything else.
    """
    if isinstance(outputs, Tensor):
        return dice_cross_entropy(outputs, labels, dice_weight)
    if not (isinstance(outputs, (tuple, list)) and outputs and isinstance(outputs[0], Tensor)):
        raise MachineError(
            f"the network returned {type(outputs).__name__} in training mode, expected logits or "
            "(logits, [auxiliary logits, ...])"
        )
    logits, auxiliary = outputs[0], outputs[1] if len(outputs) > 1 else []
    loss = dice_cross_entropy(logits, labels, dice_weight)
    if not auxiliary or aux_weight == 0:
        return loss
    sides = [dice_cross_entropy(_fit(side, labels), labels, dice_weight) for side in auxiliary]
    return loss + aux_weight * torch.stack(sides).mean()


def dice_cross_entropy(logits: Tensor, labels: Tensor, dice_weight: float) -> Tensor:
    """Mean cross-entropy + ``dice_weight`` * (1 - soft Dice), over the pixels not ignored.

    Dice, 2 |p y| / (|p| + |y|), sums over the whole batch before it divides and is averaged over
    the classes that its labels have, background included: a lost class costs, and one that is
    not there is left to the cross-entropy.
    """
    logits = two_classes(logits).float()
    valid = labels != IGNORED  # (B, *spatial)
    cross_entropy = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    loss = cross_entropy / valid.sum().clamp(min=1)
    if dice_weight == 0:
        return loss
    p = logits.softmax(1) * valid.unsqueeze(1)  # (B, K, *spatial)
    y = F.one_hot(labels.where(valid, 0), logits.shape[1]).movedim(-1, 1) * valid.unsqueeze(1)
    axes = [0, *range(2, logits.dim())]
    overlap, size, truth = (p * y).sum(axes), (p + y).sum(axes), y.sum(axes)  # (K,)
    dice = 2 * overlap / size.clamp(min=1)
    present = truth > 0
    mean_dice = dice.where(present, 0).sum() / present.sum().clamp(min=1)
    return loss + dice_weight * (1 - mean_dice)


def two_classes(logits: Tensor) -> Tensor:
    """One sigmoid channel z as the logits [0, z] of two classes; more channels as they are."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def _fit(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits at the labels' resolution."""
    size = labels.shape[1:]
    if logits.shape[2:] == size:
        return logits
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(logits.float(), size=size, mode=mode, align_corners=False)
