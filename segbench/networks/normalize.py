"""``--normalize``: what a user's own network expects of its images, done inside the model.

Data are always [0, 1], so eps always means a fraction of that range, whatever a network wants.

    imagenet            less the mean and over the deviation of ImageNet's channels; for any other
                        count than three, those of their mean
    zscore              every image less its own mean and over its own deviation
    0-255               times 255
    mean=0.5,std=0.25   the given numbers, one for all channels or one per channel joined by +
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from segbench.errors import UserError
from segbench.networks.channels import Channels

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_LARGEST_MEAN, _LARGEST_STD = 2.0, 10.0  # for images in [0, 1]; beyond is another scale's


@dataclass(frozen=True)
class Normalization:
    """(images - mean) / std, by given numbers or, ``per_image``, by each image's own.

    ``channels`` is what comes first (see ``channels.py``).
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    per_image: bool = False
    channels: Channels | None = None


def parse_normalization(text: str, channels: int) -> Normalization:
    """What ``--normalize`` means for images of so many channels.

    Raises:
        UserError: the text is none of the above, or has numbers for another count of channels.
    """
    if text == "imagenet":
        if channels == 3:
            return Normalization(_IMAGENET_MEAN, _IMAGENET_STD)
        return Normalization((sum(_IMAGENET_MEAN) / 3,), (sum(_IMAGENET_STD) / 3,))
    if text == "zscore":
        return Normalization(per_image=True)
    if text == "0-255":
        return Normalization(std=(1 / 255,))
    values = dict(part.partition("=")[::2] for part in text.split(","))
    if set(values) != {"mean", "std"} or text.count(",") != 1:
        raise _refusal(text)
    numbers = {key: _numbers(value, text) for key, value in values.items()}
    for key, given in numbers.items():
        if len(given) not in (1, channels):
            raise UserError(
                f"--normalize {text!r} has {len(given)} numbers for {key}, but images have "
                f"{channels} channels; give 1 or {channels}"
            )
    if min(numbers["std"]) <= 0:
        raise UserError(f"--normalize {text!r}: std must be above zero")
    if max(map(abs, numbers["mean"])) > _LARGEST_MEAN or max(numbers["std"]) > _LARGEST_STD:
        raise UserError(
            f"--normalize {text!r} is on the scale of pixels of 0 to 255, but images are in [0, 1] "
            f"here; did you mean {_shown(numbers)}?"
        )
    return Normalization(numbers["mean"], numbers["std"])


def _shown(numbers: Mapping[str, tuple[float, ...]]) -> str:
    """The same numbers over 255, as ``--normalize`` takes them."""
    return ",".join(
        f"{key}={'+'.join(f'{value / 255:.4g}' for value in numbers[key])}"
        for key in ("mean", "std")
    )


def _numbers(text: str, whole: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split("+"))
    except ValueError:
        raise _refusal(whole) from None
    if not all(map(math.isfinite, numbers)):
        raise _refusal(whole)
    return numbers


def _refusal(text: str) -> UserError:
    return UserError(
        f"--normalize {text!r} is unknown; expected imagenet, zscore, 0-255 or mean=0.5,std=0.25 "
        "(numbers per channel joined by +)"
    )
