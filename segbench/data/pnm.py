"""What a PBM, PGM or PPM says of its pixels: which number is white, and how many there must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segbench.data.faults import BadFileError


def white_of(picture: Image.Image) -> int:
    """The number that is white; 0 of a picture of bits, or of floating point."""
    arguments = _tile(picture)[3]
    if isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 0:
        return arguments[-1]
    if arguments == "I;16B":
        return 65535
    return 0 if picture.mode in ("1", "F") else 255


def refuse_cut(picture: Image.Image, path: Path) -> None:
    """Refuse a file that holds fewer numbers than it declares, others, or one above its white.

    Raises:
        BadFileError: it does.
    """
    codec, _, offset, _ = _tile(picture)
    whole = path.read_bytes()
    content = whole[offset:]
    found = _text_numbers(picture, content) if codec == "ppm_plain" else len(content)
    count = picture.width * picture.height * len(picture.getbands())
    needed = count if codec == "ppm_plain" else _bytes_of(picture)
    if found < needed:
        raise BadFileError(path, "is cut short (fewer pixels than its header says)")
    if codec == "ppm_plain":
        return
    if content[needed:].strip() or whole[offset - 1 : offset + 1] == b"\r\n":
        raise BadFileError(
            path,
            f"has {found:,} bytes of pixels where {needed:,} are declared (several pictures, or "
            "line ends that were changed on the way)",
        )
    if white := white_of(picture):
        numbers = np.frombuffer(content, ">u2" if white > 255 else "u1", count)
        if numbers.size and numbers.max() > white:
            raise BadFileError(path, f"holds the value {numbers.max()}; its white is {white}")


def _text_numbers(picture: Image.Image, content: bytes) -> int:
    """How many whole numbers stand in a text; the last is one only where something follows it."""
    if picture.mode == "1":
        return len(b"".join(content.split()))
    return len(content.split()) - (not content[-1:].isspace())


def _bytes_of(picture: Image.Image) -> int:
    """How many bytes the pixels take."""
    if picture.mode == "1":
        return picture.height * ((picture.width + 7) // 8)
    each = 4 if picture.mode == "F" else 2 if white_of(picture) > 255 else 1
    return picture.width * picture.height * len(picture.getbands()) * each


def _tile(picture: Image.Image) -> Any:
    return picture.tile[0]  # type: ignore[attr-defined]
