"""Picture files opened with care, and damage that decoders do not mind.

Decompression is bounded before it starts, and whatever a decoder raises becomes one BadFileError.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from segbench.atomic import require_regular
from segbench.data.endings import format_of
from segbench.data.faults import BadFileError
from segbench.data.raster_formats import JPEG, refuse_end
from segbench.engine.memory import free_bytes

MAX_PIXELS = 100_000_000
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000")
"""Those that a file may be of, whatever it is called; their first bytes leave no doubt."""

_JPEG_END = b"\xff\xd9"
_SCAN = 0xDA  # the marker that pixels follow
_ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_WIDEST = 24  # bytes of a pixel once it is read: three channels of float64

_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open picture of bounded size; the decoder's errors in the block become BadFileError."""
    try:
        require_regular(path)
        with warnings.catch_warnings():
            # Pillow warns of large files; the limit here is an error of its own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # TIFF tags that Pillow does not understand do not matter to the pixels.
            warnings.simplefilter("ignore", UserWarning)
            # That Pillow will some day read a format no more is no matter of this file.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Not by its name: Pillow then maps the file, and maps a TIFF on its side wrongly.
            formats = _formats(path)
            with path.open("rb") as file, Image.open(file, formats=formats) as picture:
                _bound(picture, path)
                yield picture
    except UnidentifiedImageError:
        raise BadFileError(
            path, f"is not an image that can be read ({' '.join(formats)})"
        ) from None
    except _DECODER_ERRORS as error:
        raise BadFileError(path, f"cannot be read ({error})") from None


def _formats(path: Path) -> tuple[str, ...]:
    """What a file may be: what it is called, where Pillow has that, or one of the usual."""
    own = format_of(path)
    if not own or own in FORMATS:
        return FORMATS
    if own not in Image.OPEN:
        Image.init()
    if own not in Image.OPEN:
        raise BadFileError(path, f"is a {own}, which the Pillow that is installed does not read")
    return (own, *FORMATS)


def _bound(picture: Image.Image, path: Path) -> None:
    count = picture.width * picture.height
    if count > MAX_PIXELS:
        raise BadFileError(
            path, f"has {picture.width} x {picture.height} pixels, over the {MAX_PIXELS:,} allowed"
        )
    if count * _WIDEST > (free := free_bytes()):
        raise BadFileError(
            path,
            f"has {picture.width} x {picture.height} pixels, {count * _WIDEST:,} bytes once they "
            f"are read, but {free:,} bytes of memory are free",
        )


def verify(picture: Image.Image, path: Path) -> None:
    """Find damage cheaply: a PNG's checksums, a TIFF's strips in the file, what ends a format."""
    size = path.stat().st_size
    if picture.format in JPEG:
        if _JPEG_END not in path.read_bytes():  # whatever follows it
            raise BadFileError(path, "is cut short (a JPEG without its end marker)")
    elif picture.format == "TIFF":
        tags: Any = picture.tag_v2  # type: ignore[attr-defined]
        offsets, counts = (
            tags.get(strips, tags.get(tiles, ())) for strips, tiles in ((273, 324), (279, 325))
        )
        if any(start + count > size for start, count in zip(offsets, counts, strict=False)):
            raise BadFileError(path, "is cut short (a TIFF whose pixels lie beyond its end)")
    else:
        refuse_end(picture, path)
        picture.verify()


def refuse_cut(picture: Image.Image, path: Path) -> None:
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
