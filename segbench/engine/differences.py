"""Whether gradients say what an answer changes by: against finite differences.

A gradient may be right for the graph that autograd recorded and say nothing of the network: values
that the image decides without one, a ripple too small to see, a backward of its own that is not the
forward's, a script whose inside nobody sees. Whatever hides it, the answer to a slightly moved
image is then not what its gradient foretells.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

import torch
from torch import Tensor

from segbench.engine.handed import input_gradient

STEP = 0.25 / 255
UNFORETOLD = 0.3
"""Of the change: a right gradient of a trained U-Net misses 0.07, of one that misleads 0.9."""

_PROJECTIONS = 4  # of each image
_SURE = 0.9  # at the larger step: beyond what kinks make of it
_ROUNDING = 1e-6  # of the answer: no more than fp32 makes of its order

Ask = Callable[[Tensor], Tensor]


def unforetold_share(exact: Ask, followed: Ask, images: Tensor) -> float:
    """The share of what logits change by, on images moved a little, that gradients do not foretell.

    Of random projections of the logits (one gradient each) and moves by random signs. Of kinks it
    falls with the root of the step, so that two steps tell them from the rest.

    Args:
        exact: an image (1, C, *spatial) to logits, the same ones each time.
        followed: the same by the copy whose gradients are taken.
        images: (B, C, *spatial) in [0, 1].
    """
    large = _missed(exact, followed, images, 4 * STEP)
    if not large <= _SURE:  # so too a NaN, which foretells nothing
        return 1.0 if isnan(large) else min(large, 1.0)
    small = _missed(exact, followed, images, STEP)
    return 1.0 if isnan(small) else max(0.0, 2 * small - large)


def _missed(exact: Ask, followed: Ask, images: Tensor, step: float) -> float:
    missed = whole = 0.0
    generator = torch.Generator().manual_seed(0)
    for image in torch.split(images, 1):
        before = exact(image)
        for _ in range(_PROJECTIONS):
            moved = (image + step * _signs(image, generator)).clamp(0, 1)
            change = exact(moved) - before
            if change.norm() <= _ROUNDING * before.norm():
                continue
            sight = _signs(before, generator)
            leaf = image.clone().requires_grad_()
            with torch.enable_grad():
                gradient = input_gradient((followed(leaf) * sight).sum(), leaf)
            actual = float((change * sight).double().sum())
            foretold = float((gradient.double() * (moved - image).double()).sum())
            missed += (actual - foretold) ** 2
            whole += actual**2
    return (missed / whole) ** 0.5 if whole else 0.0


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, like.shape, generator=generator).to(like) * 2 - 1
