"""Any image size through a network that needs multiples of its stride.

Images are padded at the bottom, right (and back) by repeating their edge, and the logits cropped
to the images' own size. Both are differentiable and do nothing where the size already fits.

A network calls `torch.fx.wrap` on both names after importing them: they branch on shapes, which
symbolic tracing can only keep as one opaque step.
"""

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """(B, C, *spatial) with every spatial size rounded up to a multiple, the edge repeated."""
    missing = [-size % multiple for size in images.shape[2:]]
    if not any(missing):
        return images
    # F.pad counts from the last axis: (before, after) of W, then of H, then of D.
    widths = [width for size in reversed(missing) for width in (0, size)]
    return F.pad(images, widths, mode="replicate")


def crop_to(logits: Tensor, images: Tensor) -> Tensor:
    """The part of logits (B, K, *padded) that lies over the images (B, C, *spatial)."""
    for axis in range(2, images.dim()):
        if logits.shape[axis] != images.shape[axis]:
            logits = logits.narrow(axis, 0, images.shape[axis])
    return logits
