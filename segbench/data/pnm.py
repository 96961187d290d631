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
    """Refuse a file that holds fewer numbers than it declares, or a number above its white.

    Raises:
        BadFileError: it does.
    """
    codec, _, offset, _ = _tile(picture)
    content = path.read_bytes()[offset:]
    samples = len(picture.getbands())
    count = picture.width * picture.height * samples
    if codec == "ppm_plain":
        # the last number may be cut too, unless something follows it
        whole = content[-1:].isspace() or picture.mode == "1"
        found = len(b"".join(content.split()) if picture.mode == "1" else content.split())
        short = found < count or (found == count and not whole)
    else:
        width = {"1": (picture.width + 7) // 8, "F": 4 * picture.width}.get(picture.mode)
        white = white_of(picture)
        each = 2 if white > 255 else 1
        needed = picture.height * width if width else count * each
        short = len(content) < needed
        if not short and not width:
            numbers = np.frombuffer(content, ">u2" if each == 2 else "u1", count)
            if numbers.size and numbers.max() > white:
                raise BadFileError(path, f"holds the value {numbers.max()}; its white is {white}")
    if short:
        raise BadFileError(path, "is cut short (fewer pixels than its header says)")


def _tile(picture: Image.Image) -> Any:
    return picture.tile[0]  # type: ignore[attr-defined]
