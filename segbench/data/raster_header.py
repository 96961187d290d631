"""What a picture file says about its own pixels: obeyed or refused, for images and masks alike.

Whatever a file says of orientation, photometric interpretation, sample format, bits, planes, pages,
alpha and colour profile is looked at here, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segbench.data.faults import BadFileError
from segbench.data.raster_formats import JPEG, format_facts
from segbench.data.tiff_pages import refuse_hidden

ORIENTATION = 0x0112
UPRIGHT, MIRRORED = 1, (5, 6, 7, 8)  # the latter exchange height and width

_EXIF = (*JPEG, "PNG", "WEBP", "AVIF")
GRAY16 = ("I;16", "I;16B", "I;16L", "I;16N")
_WIDE: dict[str, dict[str, Any]] = {
    "I": {"kind": "i4", "bits": 32},
    "F": {"kind": "f4", "bits": None},
}
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_PHOTOMETRIC, _FORMAT, _BITS, _EXTRA, _COMPRESSION = 262, 339, 258, 338, 259
_DESCRIPTION = 270
_LOSSY = {6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
          50001: "WebP"}  # fmt: skip
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3


@dataclass(frozen=True)
class RasterHeader:
    """What a file says of itself.

    Attributes:
        height: of the picture as it is meant to be seen, like ``width``.
        channels: 1 or 3, when read as an image.
        kind: numpy's name of its numbers: u1, u2, i1, i2, u4, i4 or f4.
        bits: how many of them count; None for floating point.
        white_is_0: whether its numbers fall with brightness, and the decoder leaves them so.
        turn: the EXIF orientation that the decoder leaves to be applied, 1 to 8.
        lossy: the compression that changes values, "" for none.
        white: the greatest number, where it is not that of the bits.
        spread: by how much the decoder multiplies the file's numbers.
    """

    height: int
    width: int
    channels: int
    kind: str = "u1"
    bits: int | None = 8
    white_is_0: bool = False
    turn: int = UPRIGHT
    lossy: str = ""
    white: int = 0
    spread: float = 1.0

    @property
    def needs_range(self) -> bool:
        """Whether its numbers alone do not say what is black and what is white."""
        return self.kind not in ("u1", "u2")


def header_of(picture: Image.Image, path: Path) -> RasterHeader:
    """What an open file says, before its pixels are decoded.

    Raises:
        BadFileError: something that can be neither obeyed nor ignored.
    """
    _refuse_pages(picture, path)
    if picture.format == "TIFF":
        return tiff_header(picture, path)
    facts = {"channels": _channels(picture, path), **_numbers_of(picture, path)}
    facts |= format_facts(picture, path)
    return _sized(picture, _orientation(picture, path), **facts)


def _refuse_pages(picture: Image.Image, path: Path) -> None:
    if picture.format not in JPEG and getattr(picture, "n_frames", 1) > 1:
        raise BadFileError(path, "holds several frames; expected one image per file")


def _numbers_of(picture: Image.Image, path: Path) -> dict[str, Any]:
    """What the decoder says of the numbers."""
    raw = _raw_mode(picture)
    if picture.mode in GRAY16 or (picture.mode == "I" and "16" in raw):
        return {"kind": "u2", "bits": 16}
    if raw.endswith((";16B", ";16L", ";16N")):  # Pillow keeps the upper half of each value
        raise BadFileError(
            path, "has 16 bits per colour channel; save it as 16-bit gray or 8-bit colour"
        )
    return _WIDE.get(picture.mode, {})


def _orientation(picture: Image.Image, path: Path) -> int:
    """The EXIF tag, where it is known without decoding the pixels; 0 means that it is not said."""
    if picture.format == "PNG" and not _png_says_exif(path):
        return UPRIGHT
    found = picture.getexif().get(ORIENTATION, UPRIGHT) if picture.format in _EXIF else UPRIGHT
    if found == 0:
        return UPRIGHT
    if found not in range(1, 9):
        raise BadFileError(path, f"has the EXIF orientation {found}; expected 1 to 8")
    return int(found)


def _png_says_exif(path: Path) -> bool:
    """Whether a PNG has a chunk that may hold it; Pillow would decode all to find out."""
    texts = (b"tEXt", b"zTXt", b"iTXt")
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind == b"eXIf":
                return True
            if kind in texts:
                key = file.read(min(length, 32))
                if key.startswith((b"Raw profile type exif", b"XML:com.adobe.xmp")):
                    return True
                length -= len(key)
            file.seek(length + 4, 1)
    return False


def _sized(picture: Image.Image, turn: int, **facts: Any) -> RasterHeader:
    height, width = picture.height, picture.width
    if turn in MIRRORED:
        height, width = width, height
    return RasterHeader(height, width, turn=turn, **facts)


def _channels(picture: Image.Image, path: Path) -> int:
    if picture.mode in ("1", "L", "LA", "La", "I", "F", *GRAY16):
        return 1
    if picture.mode == "P":
        palette = np.array(picture.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return 1 if (palette == palette[:, :1]).all() else 3
    if picture.mode in ("RGB", "RGBA", "PA"):
        return 3
    raise BadFileError(
        path, f"has the pixel type {picture.mode!r}; expected 8-bit or 16-bit gray, or colour"
    )


def tiff_header(picture: Image.Image, path: Path) -> RasterHeader:
    """What the open page of a TIFF says.

    Pillow turns it upright when it is loaded, and has exchanged its sides by now.

    Raises:
        BadFileError: as for ``header_of``.
    """
    tags: Any = picture.tag_v2  # type: ignore[attr-defined]
    refuse_hidden(getattr(picture, "n_frames", 1), str(tags.get(_DESCRIPTION, "")), path)
    orientation = tags.get(ORIENTATION, UPRIGHT)
    if orientation not in range(9):
        raise BadFileError(path, f"has the orientation {orientation}; expected 1 to 8")
    photometric = tags.get(_PHOTOMETRIC)
    if photometric not in (_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _YCBCR):
        raise BadFileError(
            path,
            f"has the photometric interpretation {photometric}; expected 0 or 1 (gray), 2 (RGB), "
            "3 (palette) or 6 (YCbCr)",
        )
    if 0 in _numbers(tags.get(_EXTRA)):
        raise BadFileError(
            path, "has a further sample per pixel and does not say what it means; save it without"
        )
    facts: dict[str, Any] = {"lossy": _LOSSY.get(tags.get(_COMPRESSION, 1), "")}
    formats, bits = _numbers(tags.get(_FORMAT)) or (_UNSIGNED,), _numbers(tags.get(_BITS)) or (1,)
    if photometric in (_WHITE_IS_0, _BLACK_IS_0):
        white_is_0 = photometric == _WHITE_IS_0
        facts |= _gray_facts(formats[0], bits[0], path) | {"channels": 1}
        if white_is_0 and facts["kind"] not in ("u1", "u2"):
            raise BadFileError(path, "says that white is 0, of numbers that have no white")
        facts["white_is_0"] = white_is_0 and bits[0] > 8  # up to 8 Pillow turns them itself
    elif max(bits) > 8 or set(formats) != {_UNSIGNED}:
        raise BadFileError(
            path,
            f"has {max(bits)} bits per colour channel; save it as 16-bit gray or 8-bit colour",
        )
    else:
        facts["channels"] = _channels(picture, path)
    return _sized(picture, UPRIGHT, **facts)


def _gray_facts(sample_format: int, bits: int, path: Path) -> dict[str, Any]:
    if sample_format == _UNSIGNED and bits <= 8:
        return {"kind": "u1", "bits": 8}  # fewer are spread over 0 to 255 by the decoder
    if sample_format == _UNSIGNED and bits in (12, 16, 32):
        return {"kind": "u4" if bits == 32 else "u2", "bits": bits}
    if sample_format == _SIGNED and bits in (8, 16, 32):
        return {"kind": f"i{bits // 8}", "bits": bits}
    if sample_format == _FLOAT and bits == 32:
        return {"kind": "f4", "bits": None}
    words = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "floating point"}
    raise BadFileError(
        path, f"has {words.get(sample_format, 'undeclared')} numbers of {bits} bits, not read here"
    )


def _numbers(tag: Any) -> tuple[int, ...]:
    return tuple(tag) if isinstance(tag, tuple) else () if tag is None else (tag,)


def _raw_mode(picture: Image.Image) -> str:
    """The layout of the file's pixels, such as ``RGB;16B``, where the decoder says."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""
