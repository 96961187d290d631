"""Light augmentation of training cases with MONAI's transforms.

What happens to a case is a pure function of (seed, epoch, case): not of the order, the batch or
what came before. An interrupted training therefore resumes exactly without any saved random state.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from torch import Tensor
from torch.nn import functional as F

from segbench.training.recipes import Augmentation


def derive_seed(*parts: int | str) -> int:
    """A 32-bit seed from named parts, the same on every machine and in every process."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def augment(
    image: Tensor, labels: Tensor, strength: Augmentation, seed: int
) -> tuple[Tensor, Tensor]:
    """A varied copy of an image (C, *spatial) in [0, 1] and its labels (*spatial).

    Images are interpolated linearly and labels by the nearest neighbour; what comes into view is
    the border repeated. Shapes and dtypes stay.
    """
    transforms = _transforms(strength, tuple(labels.shape))
    if transforms is None:
        return image, labels
    transforms.set_random_state(seed=seed)
    varied = transforms({"image": image, "labels": labels.unsqueeze(0).float()})
    return (
        torch.as_tensor(varied["image"]).clamp(0, 1).to(image.dtype),
        torch.as_tensor(varied["labels"]).squeeze(0).to(labels.dtype),
    )


def halve(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """An image and its labels at half the size along every axis that allows it.

    Pixels are averaged; of labels every second one is kept.
    """
    steps = [2 if size > 1 else 1 for size in labels.shape]
    pool = F.avg_pool2d if len(steps) == 2 else F.avg_pool3d
    coarse = pool(image, steps, ceil_mode=True)
    return coarse, labels[tuple(slice(None, None, step) for step in steps)]


@lru_cache(maxsize=64)
def _transforms(strength: Augmentation, spatial: tuple[int, ...]) -> Compose | None:
    """MONAI's transforms for one image size; None where nothing is to be done."""
    chain = []
    if strength.flip:
        keys = ["image", "labels"]
        chain += [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(len(spatial))]
    if strength.rotate or strength.scale or strength.translate:
        angle = math.radians(strength.rotate)
        shift = [strength.translate * size for size in spatial]
        chain.append(
            RandAffined(
                ["image", "labels"],
                prob=1.0,
                rotate_range=[(-angle, angle)] * (1 if len(spatial) == 2 else 3),
                scale_range=[(-strength.scale, strength.scale)] * len(spatial),
                translate_range=[(-pixels, pixels) for pixels in shift],
                mode=["bilinear", "nearest"],
                padding_mode="border",
            )
        )
    if strength.gamma:
        chain.append(
            RandAdjustContrastd(
                "image", prob=1.0, gamma=(1 / (1 + strength.gamma), 1 + strength.gamma)
            )
        )
    if strength.contrast:
        chain.append(RandScaleIntensityd("image", prob=1.0, factors=strength.contrast))
    if strength.brightness:
        chain.append(RandShiftIntensityd("image", prob=1.0, offsets=strength.brightness))
    return Compose(chain) if chain else None
