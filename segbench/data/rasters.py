"""Files of pictures to arrays, as ``raster_header.py`` finds them to be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segbench.api import Intensity
from segbench.data.coding import COLOUR
from segbench.data.colour_profiles import refuse_profile
from segbench.data.faults import BadFileError
from segbench.data.raster_file import opened, refuse_cut, verify
from segbench.data.raster_header import UPRIGHT, RasterHeader, header_of
from segbench.data.scale import OWN_SCALE, Scale, to_unit

_WHOLE = 1e-3  # by which a label stored as floating point may miss a whole number


def inspect_image(path: Path) -> RasterHeader:
    """The header of an image file, its structure checked without decoding the pixels.

    Raises:
        BadFileError: not an image, damaged, too large, or of a kind that would lose information.
    """
    with opened(path) as picture:
        header = header_of(picture, path)
        refuse_profile(picture, path)
    with opened(path) as picture:  # what was asked for above may have moved in the file
        verify(picture, path)
    return header


def inspect_mask(path: Path) -> tuple[int, int]:
    """(height, width) of a mask file, its structure checked without decoding the pixels.

    Raises:
        BadFileError: as for ``inspect_image``, or a compression that changes values.
    """
    header = inspect_image(path)
    _refuse_as_mask(header, path)
    return header.height, header.width


def read_image(
    path: Path, channels: int = 0, scale: Scale = OWN_SCALE
) -> tuple[NDArray[np.float32], Intensity]:
    """(C, H, W) in [0, 1], and the map back to the file's numbers.

    ``channels`` 1 turns colour into luma (ITU-R 601), 3 repeats gray, 0 keeps what the file has.

    Raises:
        BadFileError: the pixels cannot be read, or do not say what is black and white.
    """
    with opened(path) as picture:
        header = header_of(picture, path)
        refuse_profile(picture, path)
        if header.needs_range and scale.ends is None:
            raise BadFileError(path, needs_range(header))
        if picture.format == "JPEG":
            refuse_cut(picture, path)
        values = samples(picture, header, path)
    if values.ndim == 3 and channels == 1:
        values = np.asarray(Image.fromarray(values).convert("L"))
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    known = scale.intensity(header.bits, header.white)
    if scale.ends is None and planes.max() > known.high:
        raise BadFileError(
            path, f"holds the value {planes.max()}; bits={scale.bits} go to {known.high:g} only"
        )
    if not np.isfinite(planes).all():
        raise BadFileError(path, "holds pixels that are NaN or infinite")
    image = to_unit(planes, known)
    if channels == 3 and len(image) == 1:
        image = np.repeat(image, 3, axis=0)
    return np.ascontiguousarray(image), known


def read_mask(path: Path) -> NDArray[np.integer]:
    """(H, W) values as they are meant: gray values, those of a gray palette included.

    A pixel of another colour, by a palette or its own, is COLOUR + 0xRRGGBB.

    Raises:
        BadFileError: the pixels cannot be read, or are between whole numbers.
    """
    return read_mask_and_palette(path)[0]


def read_mask_and_palette(path: Path) -> tuple[NDArray[np.integer], dict[int, int]]:
    """The same, and the palette index of every value that it holds; empty without a palette.

    Raises:
        BadFileError: likewise, or two indices in use are of one colour.
    """
    with opened(path) as picture:
        header = header_of(picture, path)
        _refuse_as_mask(header, path)
        indices = _used_indices(picture, path) if picture.mode == "P" else {}
        values = samples(picture, header, path, mask=True)
    if values.ndim == 3:
        return _packed(values.astype(np.int64)), indices
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.isfinite(values).all() or np.abs(values - whole).max() > _WHOLE:
            raise BadFileError(path, "holds values between whole numbers; expected labels")
        values = whole.astype(np.int64)
    return values, indices


def needs_range(header: RasterHeader) -> str:
    """Why numbers that may be negative, or have no greatest one, are not read as they are."""
    words = {"i": "signed (negative) numbers", "u": "numbers of 32 bits", "f": "floating point"}
    return (
        f"holds {words[header.kind[0]]}, which do not say what is black and white; say it with "
        "range=LOW..HIGH"
    )


def samples(
    picture: Image.Image, header: RasterHeader, path: Path, *, mask: bool = False
) -> NDArray[Any]:
    """(H, W) or (H, W, 3), upright, in the file's own numbers.

    Raises:
        BadFileError: pixels that are transparent, or not of the size that the header says.
    """
    picture.load()
    if header.turn != UPRIGHT:
        picture = ImageOps.exif_transpose(picture)
    _refuse_transparent(picture, path, mask=mask)
    if picture.mode in ("1", "L", "LA") or (picture.mode == "P" and header.channels == 1):
        values = np.asarray(picture.convert("L"))
    elif picture.mode in ("P", "PA", "RGB", "RGBA"):
        values = np.asarray(picture.convert("RGB"))
    else:
        values = np.asarray(picture)
    values = _as_kind(values, header)
    if values.shape[:2] != (header.height, header.width):
        raise BadFileError(
            path,
            f"is {values.shape[1]} x {values.shape[0]} pixels once decoded, and its header says "
            f"{header.width} x {header.height}",
        )
    return values


def _as_kind(values: NDArray[Any], header: RasterHeader) -> NDArray[Any]:
    """The file's numbers: Pillow's wrap at 32 bits, and its bytes have no sign."""
    if header.kind == "i1":
        return values.view(np.int8)
    if header.kind == "u4":
        return values.view(np.uint32)
    if header.spread != 1:
        values = np.rint(values / header.spread)
    values = values.astype(header.kind, copy=False)
    if header.white_is_0:
        values = np.asarray(2 ** (header.bits or 8) - 1 - values, dtype=values.dtype)
    return values


def _refuse_transparent(picture: Image.Image, path: Path, *, mask: bool) -> None:
    """Colours under transparency are not seen; a mask may be transparent where it is black."""
    if not picture.has_transparency_data:
        return
    if picture.mode.startswith("I"):
        unseen = np.asarray(picture) == picture.info["transparency"]
        harmless = mask and picture.info["transparency"] == 0
    else:
        colours = np.asarray(picture.convert("RGBA"))
        unseen = colours[..., 3] < 255
        harmless = mask and not colours[unseen].any()
    if unseen.any() and not harmless:
        raise BadFileError(
            path,
            f"is transparent in {np.count_nonzero(unseen)} pixels, whose colour is not to be seen; "
            "save it without transparency",
        )


def _used_indices(picture: Image.Image, path: Path) -> dict[int, int]:
    """Value as ``read_mask`` gives it -> index, of the palette's entries that are in use."""
    used = np.flatnonzero(np.bincount(np.asarray(picture).ravel()))
    palette = np.array(picture.getpalette("RGB") or [], dtype=np.int64).reshape(-1, 3)
    if used.size and used[-1] >= len(palette):
        raise BadFileError(
            path, f"uses the index {used[-1]} of a palette of {len(palette)} colours"
        )
    values = _packed(palette[used][None])[0].tolist()
    found: dict[int, int] = {}
    for value, index in zip(values, used.tolist(), strict=True):
        if value in found:
            raise BadFileError(
                path, f"has a palette in which {found[value]} and {index} are of one colour"
            )
        found[value] = index
    return found


def _packed(colours: NDArray[np.int64]) -> NDArray[np.int64]:
    red: NDArray[np.int64] = colours[..., 0]
    green, blue = colours[..., 1], colours[..., 2]
    gray = (red == green) & (green == blue)
    if gray.all():
        return red
    packed: NDArray[np.int64] = COLOUR + (red << 16) + (green << 8) + blue
    packed[gray] = red[gray]
    return packed


def _refuse_as_mask(header: RasterHeader, path: Path) -> None:
    if header.lossy:
        article = "an" if header.lossy[0] in "AEIOU" else "a"
        raise BadFileError(
            path,
            f"is {article} {header.lossy}, whose compression invents mask values; save masks as "
            "PNG or TIFF",
        )
