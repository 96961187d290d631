"""What the image processor beside a network of transformers does to images.

It is a file of settings and the name of a class of transformers' own, whose defaults stand for what
the file leaves out and which heeds some settings and not others: MobileViT's has a mean, and takes
none off. So transformers reads it, and what it does to colours is seen. Since version 5 a processor
of several parts saves the settings in ``processor_config.json``, under its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.atomic import read_regular
from segbench.errors import UserError
from segbench.networks.channels import RGB

NESTED, FLAT = "processor_config.json", "preprocessor_config.json"
_PART = "image_processor"
_SIDE = 64
_DONE = ("do_rescale", "do_normalize", "do_convert_rgb")  # here, as there
_TOLD = {  # what the rest does, and the key of its size
    "do_resize": ("resizes images", "size"),
    "do_center_crop": ("crops their centre", "crop_size"),
    "do_pad": ("pads them", "pad_size"),
    "do_thumbnail": ("makes thumbnails of them", ""),
    "do_align_long_axis": ("turns them", ""),
    "do_split_image": ("cuts them into squares, whose answers are put together", ""),
    "do_reduce_labels": ("takes label 0 for none and counts the others from 0 on", ""),
}


@dataclass(frozen=True)
class ImageProcessor:
    """Its settings, those of its class among them; the file of its own; and itself."""

    file: Path
    settings: Mapping[str, Any]
    process: Callable[..., Any]

    def scale(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of pixels in [0, 1], by what becomes of three colours.

        One number where all channels have the same.

        Raises:
            UserError: it turns the channels round, or does something else than to scale them.
        """
        channels = self._channels()
        colour = np.linspace(64, 200, channels).astype(np.uint8)  # no two channels the same
        black, white, other = map(self._seen, (0 * colour, 0 * colour + 255, colour))
        with np.errstate(all="ignore"):
            std = 1 / (white - black)
            mean = -black * std
            expected = (colour / 255 - mean) / std
            turned = (colour[::-1] / 255 - mean) / std
        bgr = channels == RGB and np.isfinite(expected).all()
        if bgr and np.allclose(other, turned, rtol=1e-3, atol=1e-4):
            raise UserError(f"{self.file} asks for BGR images")
        if not np.allclose(other, expected, rtol=1e-3, atol=1e-4) or min(std) <= 0:
            raise UserError(f"{self.file} does not scale images by a mean and a deviation")
        return _short(mean), _short(std)

    def _channels(self) -> int:
        """Of the pictures that it is for: as many as it lists numbers, else red, green and blue."""
        said = (self.settings.get(key) for key in ("image_mean", "image_std"))
        return max((len(one) for one in said if isinstance(one, list | tuple)), default=0) or RGB

    def _seen(self, colour: NDArray[np.uint8]) -> NDArray[np.float64]:
        """What a pixel of a colour becomes, (C,), where a picture is neither cut nor padded."""
        picture = np.full((_SIDE, _SIDE, len(colour)), colour, np.uint8)
        told: dict[str, Any] = {"return_tensors": "pt", "input_data_format": "channels_last"}
        rest = dict.fromkeys((key for key in self.settings if key in _TOLD), False)
        try:
            found = self.process(images=picture, **told, **rest)["pixel_values"][0]
            return np.asarray(found, np.float64)[..., 0, 0].reshape(len(colour))
        except Exception as error:  # of settings that its classes do not expect, anything
            raise _unread(self.file, error) from error

    def left_out(self) -> tuple[str, ...]:
        """The sentence about what it does to images or labels beside that, and is not done here."""
        done = []
        for key, value in sorted(self.settings.items(), key=lambda item: _place(item[0])):
            if key.startswith("do_") and key not in _DONE and value:
                words, of = _TOLD.get(key, (f"has {key}", ""))
                size = self.settings.get(of)
                done.append(words + (f" to {_size(size)}" if size else ""))
        if divisor := self.settings.get("size_divisor"):
            done.append(f"pads them to multiples of {divisor}")
        if not done:
            return ()
        return (
            f"its own preprocessor also {', '.join(done)}; this is not done here: it sees images "
            "at the data's size (size= of the data set changes it) and is scored by the data's "
            "labels",
        )

    def other_side(self, side: int) -> tuple[str, ...]:
        """The sentence where it shows a network of square images others than of that side."""
        for key in ("size", "pad_size"):
            said = self.settings.get(key)
            sides = set(said.values()) - {None} if isinstance(said, Mapping) else set()
            if sides - {side}:
                return (
                    f"its own preprocessor shows it images at {key} {_size(said)}; here it sees "
                    f"them at {side} x {side}, as its network says",
                )
        return ()


def read_processor(path: Path, transformers: ModuleType) -> ImageProcessor | None:
    """The image processor of a folder; None where there is none.

    Raises:
        UserError: transformers does not read it.
    """
    nested, flat = path / NESTED, path / FLAT
    if nested.is_file() and isinstance(read_table(nested).get(_PART), dict):
        file = nested
    elif flat.is_file():
        read_table(flat)
        file = flat
    else:
        return None
    try:
        kind = transformers.AutoImageProcessor
        found = kind.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        settings: dict[str, Any] = found.to_dict()
    except Exception as error:  # of settings that its classes do not expect, anything
        raise _unread(file, error) from error
    return ImageProcessor(file, settings, found)


def _unread(file: Path, error: Exception) -> UserError:
    reason = str(error).strip().partition("\n")[0]
    return UserError(f"{file} cannot be read by transformers: {type(error).__name__}: {reason}")


def read_table(file: Path) -> dict[str, Any]:
    """A JSON file that holds a table.

    Raises:
        UserError: it does not.
    """
    try:
        read = json.loads(read_regular(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(read, dict):
        raise UserError(f"{file} holds no table")
    return read


def _short(numbers: NDArray[np.float64]) -> list[float]:
    """As they were written, rounding left out; one where all are the same."""
    short = [float(f"{number:.6g}") + 0.0 for number in numbers]
    return short[:1] if len(set(short)) == 1 else short


def _place(key: str) -> tuple[int, str]:
    """Where it is told of: known settings in their order, others after them."""
    keys = list(_TOLD)
    return keys.index(key) if key in keys else len(keys), key


def _size(said: Any) -> str:
    if isinstance(said, Mapping):
        return ", ".join(f"{key} {value}" for key, value in said.items() if value is not None)
    return str(said)
