"""``--channels``: a gray network on RGB images, or an RGB one on gray images, only when asked for.

It is done inside the model and is differentiable, so eps keeps its meaning on the data's own
pixels.

    repeat      gray images shown as RGB, R = G = B
    luminance   RGB images as gray ones, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from segbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Channels = Literal["repeat", "luminance"]

GRAY, RGB = 1, 3
LUMINANCE = (0.299, 0.587, 0.114)
_COUNTS: dict[Channels, tuple[int, int]] = {"repeat": (GRAY, RGB), "luminance": (RGB, GRAY)}


def channels_seen(channels: Channels | None, count: int) -> int:
    """How many channels a network sees of images that have so many.

    Raises:
        UserError: the rule is for images of another count.
    """
    if channels is None:
        return count
    expected, seen = _COUNTS[channels]
    if count != expected:
        raise UserError(
            f"--channels {channels} makes {expected} channels into {seen}, but the images have "
            f"{count}; leave it out"
        )
    return seen


def rule_for(count: int) -> Channels | None:
    """The rule that could help a network that refuses images of so many channels."""
    return next((rule for rule, (given, _) in _COUNTS.items() if given == count), None)


def convert_channels(images: Tensor, channels: Channels | None) -> Tensor:
    """(B, C, *spatial) -> (B, the channels seen, *spatial)."""
    if channels == "repeat":
        return images.expand(-1, RGB, *[-1] * (images.dim() - 2))
    if channels == "luminance":
        r, g, b = (weight * images[:, i : i + 1] for i, weight in enumerate(LUMINANCE))
        return r + g + b
    return images
