"""PNG, JPEG, TIFF, BMP and GIF files to arrays, in the file's own depth.

Decompression is bounded before it starts, and whatever a decoder raises becomes one BadFileError.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from segbench.atomic import require_regular
from segbench.data.coding import COLOUR
from segbench.data.faults import BadFileError

MAX_PIXELS = 100_000_000
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
JPEG = ("JPEG", "MPO")  # MPO: what cameras write, a JPEG with a second one behind it

_JPEG_END = b"\xff\xd9"
_SCAN = 0xDA  # the marker that pixels follow
_ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})

_GRAY = ("1", "L", "LA")
_GRAY16 = ("I;16", "I;16B", "I;16L", "I;16N")
_COLOUR = ("RGB", "RGBA", "RGBX", "PA")
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class RasterHeader:
    """What a file says of itself: its size, and its channels when read as an image."""

    height: int
    width: int
    channels: int


def inspect_image(path: Path) -> RasterHeader:
    """The header of an image file, its structure checked without decoding the pixels.

    Raises:
        BadFileError: not an image, damaged, too large, or of a kind that would lose information.
    """
    with _opened(path) as picture:
        header = RasterHeader(picture.height, picture.width, _channels(picture, path))
        _verify(picture, path)
    return header


def inspect_mask(path: Path) -> tuple[int, int]:
    """(height, width) of a mask file, its structure checked without decoding the pixels.

    Raises:
        BadFileError: as for ``inspect_image``, or a JPEG.
    """
    with _opened(path) as picture:
        size = (picture.height, picture.width)
        _refuse_as_mask(picture, path)
        _verify(picture, path)
    return size


def read_image(path: Path, channels: int = 0) -> tuple[NDArray[np.float32], int]:
    """(C, H, W) in [0, 1] and the file's bits, 8 or 16; alpha is dropped.

    ``channels`` 1 turns colour into luma (ITU-R 601), 3 repeats gray, 0 keeps what the file has.

    Raises:
        BadFileError: the pixels cannot be read.
    """
    with _opened(path) as picture:
        own = _channels(picture, path)
        if picture.format == "JPEG":
            _refuse_cut(picture, path)
        if _is_16_bit(picture):
            values, bits = np.asarray(picture).astype(np.uint16)[None], 16
        else:
            mode = "L" if (channels or own) == 1 else "RGB"
            array = np.asarray(picture.convert(mode))
            values, bits = (array[None] if mode == "L" else array.transpose(2, 0, 1)), 8
    image = values.astype(np.float32) / np.float32(2**bits - 1)
    if channels == 3 and image.shape[0] == 1:
        image = np.repeat(image, 3, axis=0)
    return np.ascontiguousarray(image), bits


def read_mask(path: Path) -> NDArray[np.integer]:
    """(H, W) values as coded in the file: gray values, or palette indices.

    A pixel of a colour mask has its gray value where it is gray, else COLOUR + 0xRRGGBB.

    Raises:
        BadFileError: the pixels cannot be read.
    """
    with _opened(path) as picture:
        _refuse_as_mask(picture, path)
        if picture.mode in ("1", "LA"):
            return np.array(picture.convert("L"))
        if picture.mode == "PA":
            return np.array(picture)[..., 0]
        if picture.mode in _COLOUR:
            return _packed(np.asarray(picture.convert("RGB")).astype(np.int64))
        if _is_16_bit(picture):
            return np.asarray(picture).astype(np.uint16)
        return np.array(picture)


def _packed(colours: NDArray[np.int64]) -> NDArray[np.int64]:
    red: NDArray[np.int64] = colours[..., 0]
    green, blue = colours[..., 1], colours[..., 2]
    gray = (red == green) & (green == blue)
    if gray.all():
        return red
    packed: NDArray[np.int64] = COLOUR + (red << 16) + (green << 8) + blue
    packed[gray] = red[gray]
    return packed


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open picture of bounded size; the decoder's errors in the block become BadFileError."""
    try:
        require_regular(path)
        with warnings.catch_warnings():
            # Pillow warns of large files; the limit here is an error of its own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # TIFF tags that Pillow does not understand do not matter to the pixels.
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(path, formats=FORMATS) as picture:
                _bound(picture, path)
                yield picture
    except UnidentifiedImageError:
        raise BadFileError(
            path, f"is not an image that can be read ({' '.join(FORMATS)})"
        ) from None
    except _DECODER_ERRORS as error:
        raise BadFileError(path, f"cannot be read ({error})") from None


def _bound(picture: Image.Image, path: Path) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise BadFileError(
            path, f"has {picture.width} x {picture.height} pixels, over the {MAX_PIXELS:,} allowed"
        )
    if picture.format in ("TIFF", "GIF") and getattr(picture, "n_frames", 1) > 1:
        raise BadFileError(path, "holds several frames; expected one image per file")


def _verify(picture: Image.Image, path: Path) -> None:
    """Find damage cheaply: PNG checksums, the end marker of a JPEG, a TIFF's strips in the file."""
    size = path.stat().st_size
    if picture.format in JPEG:
        with path.open("rb") as file:
            file.seek(max(0, size - (1 << 16)))
            if _JPEG_END not in file.read():
                raise BadFileError(path, "is cut short (a JPEG without its end marker)")
    elif picture.format == "TIFF":
        tags: Any = picture.tag_v2  # type: ignore[attr-defined]
        offsets, counts = (
            _numbers(tags.get(strips, tags.get(tiles)))
            for strips, tiles in ((273, 324), (279, 325))
        )
        if any(start + count > size for start, count in zip(offsets, counts, strict=False)):
            raise BadFileError(path, "is cut short (a TIFF whose pixels lie beyond its end)")
    else:
        picture.verify()


def _refuse_cut(picture: Image.Image, path: Path) -> None:
    """Find a JPEG whose pixels end too early, though it has an end marker.

    Where they do the decoder goes on with whatever follows, so they change with it.
    """
    content = path.read_bytes()
    end = content.rfind(_JPEG_END)
    if end < 0 or _is_arithmetic(content):
        return
    followed = BytesIO(content[:end] + 4096 * b"\x55" + content[end:])
    with Image.open(followed, formats=("JPEG",)) as other:
        if picture.tobytes() != other.tobytes():
            raise BadFileError(path, "is cut short (a JPEG whose pixels end before the picture)")


def _is_arithmetic(content: bytes) -> bool:
    """Whether a JPEG is of the rare coding that leaves out zeros at its end."""
    at = 2
    while content[at : at + 1] == b"\xff" and content[at + 1] != _SCAN:
        if content[at + 1] in _ARITHMETIC:
            return True
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return False


def _numbers(tag: Any) -> tuple[int, ...]:
    return tuple(tag) if isinstance(tag, tuple) else () if tag is None else (tag,)


def _channels(picture: Image.Image, path: Path) -> int:
    if _is_16_bit(picture) or picture.mode in _GRAY:
        channels = 1
    elif picture.mode == "P":
        palette = np.array(picture.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        channels = 1 if (palette == palette[:, :1]).all() else 3
    elif picture.mode in _COLOUR:
        channels = 3
    else:
        raise BadFileError(
            path, f"has the pixel type {picture.mode!r}; expected 8-bit or 16-bit gray, or colour"
        )
    if picture.mode not in _GRAY16 and picture.mode != "I" and "16" in _raw_mode(picture):
        # Pillow would silently keep the upper half of each value.
        raise BadFileError(
            path, "has 16 bits per colour channel; save it as 16-bit gray or 8-bit colour"
        )
    return channels


def _refuse_as_mask(picture: Image.Image, path: Path) -> None:
    if picture.format in JPEG:
        raise BadFileError(
            path, "is a JPEG, whose compression invents mask values; save masks as PNG or TIFF"
        )
    if picture.mode not in (*_GRAY, *_GRAY16, *_COLOUR, "P", "I"):
        raise BadFileError(path, f"has the pixel type {picture.mode!r}; expected whole numbers")


def _is_16_bit(picture: Image.Image) -> bool:
    # Older Pillows open a 16-bit gray PNG as "I".
    return picture.mode in _GRAY16 or (picture.mode == "I" and "16" in _raw_mode(picture))


def _raw_mode(picture: Image.Image) -> str:
    """The layout of the file's pixels, such as ``RGB;16B``, where the decoder says."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""
