"""What each format of pictures says of its pixels that Pillow does not pass on, and its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from segbench.data import jpeg2000, pnm
from segbench.data.faults import BadFileError
from segbench.data.web_pictures import avif_bits, refuse_cut_webp, webp_loses

JPEG = ("JPEG", "MPO")  # MPO: what cameras write, a JPEG with a second one behind it
_GRAY = ("L", "LA", "I", "I;16")
_ENDS = {"QOI": (b"\0" * 7 + b"\1", 8), "XBM": (b"}", 16), "XPM": (b"}", 16)}
"""What stands at the end of a file, and within how many bytes of it."""
_PCX_PALETTE = 769  # bytes: a mark, and 256 colours


def format_facts(picture: Image.Image, path: Path) -> dict[str, Any]:
    """Fields of a RasterHeader, where its format says more than Pillow.

    Raises:
        BadFileError: something that can be neither obeyed nor ignored.
    """
    read = _FACTS.get(picture.format or "")
    return read(picture, path) if read else {}


def refuse_end(picture: Image.Image, path: Path) -> None:
    """Refuse a file that ends too early, where its decoder would not mind.

    Raises:
        BadFileError: it does.
    """
    if picture.format == "JPEG2000":
        jpeg2000.refuse_cut(path)
    elif picture.format == "PPM":
        pnm.refuse_cut(picture, path)
    elif picture.format == "WEBP":
        refuse_cut_webp(path)
    elif picture.format in _ENDS:
        mark, within = _ENDS[picture.format]
        if mark not in path.read_bytes()[-within:]:
            raise BadFileError(path, f"is cut short (a {picture.format} without its end)")


def _jpeg2000(picture: Image.Image, path: Path) -> dict[str, Any]:
    said = jpeg2000.codestream(path)
    bits, lossy = max(said.bits, default=0), "" if said.reversible else "JPEG 2000"
    if said.size != picture.size:
        sides = " and ".join(f"{width} x {height}" for width, height in (picture.size, said.size))
        raise BadFileError(path, f"says that it is {sides} pixels at once")
    if said.signed or not 1 <= bits <= 16:
        raise BadFileError(
            path, f"is a JPEG 2000 of signed numbers, or of {bits} bits, not read here"
        )
    if picture.mode in _GRAY and (bits <= 8 or picture.mode == "I;16"):
        wide = 16 if picture.mode == "I;16" else 8
        kind = "u1" if bits <= 8 else "u2"
        return {"kind": kind, "bits": bits, "spread": 2.0 ** (wide - bits), "lossy": lossy}
    if bits > 8:
        raise BadFileError(
            path, f"has {bits} bits per colour channel; save it as gray or 8-bit colour"
        )
    if picture.mode in ("P", "PA") and bits != 8:
        raise BadFileError(path, f"has a palette of {bits} bits; save it with one of 8")
    return {"bits": bits, "spread": 2.0 ** (8 - bits), "lossy": lossy}


def _pnm(picture: Image.Image, path: Path) -> dict[str, Any]:
    white = pnm.white_of(picture)
    if not white:
        return {"kind": "f4", "bits": None} if picture.mode == "F" else {}
    if picture.mode not in _GRAY and white > 255:
        raise BadFileError(
            path,
            f"has {white.bit_length()} bits per colour channel; save it as 16-bit gray or 8-bit "
            "colour",
        )
    shown = 255 if picture.mode in ("L", "RGB") else 65535
    kind = "u1" if white <= 255 else "u2"
    return {"kind": kind, "bits": white.bit_length(), "white": white, "spread": shown / white}


def _sgi(picture: Image.Image, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        if file.read(4)[3:] != b"\2":  # bytes of a sample
            return {}
    raise BadFileError(
        path, "has 16 bits per sample, of which Pillow keeps 8; save it as PNG or TIFF"
    )


def _im(picture: Image.Image, path: Path) -> dict[str, Any]:
    if getattr(picture, "lut", None):
        raise BadFileError(path, "has a table of how to show its values; save it as PNG or TIFF")
    return {}


def _pcx(picture: Image.Image, path: Path) -> dict[str, Any]:
    """Of 256 colours, which stand at the end of the file; without them it would be gray."""
    with path.open("rb") as file:
        if picture.format == "DCX":
            file.seek(int.from_bytes(file.read(8)[4:], "little"))
        head = file.read(66)
        colours = (head[1], head[3], head[65]) == (5, 8, 1)  # version, bits, planes
        file.seek(-min(_PCX_PALETTE, path.stat().st_size), 2)
        if colours and file.read(1) != b"\x0c":
            raise BadFileError(path, "is cut short (a PCX without the palette at its end)")
    return {}


def _avif(picture: Image.Image, path: Path) -> dict[str, Any]:
    if (bits := avif_bits(path)) > 8:
        raise BadFileError(
            path, f"has {bits} bits per sample, of which Pillow keeps 8; save it as PNG or TIFF"
        )
    return {"lossy": "AVIF"}


def _texture(picture: Image.Image, path: Path) -> dict[str, Any]:
    """A game's: its blocks or its JPEG, or a palette or colours as they are."""
    tiles: Any = getattr(picture, "tile", None)
    if not tiles:
        return {}
    codec, arguments = tiles[0][0], tiles[0][3]
    bare = {"BLP1": ((1,), 0), "BLP2": ((1, 3), 1)}
    if codec in bare:
        kinds, at = bare[codec]
        return {"lossy": "" if arguments[0] == 1 and arguments[at] in kinds else "texture"}
    return {"lossy": "texture" if codec == "bcn" else ""}


_FACTS: Mapping[str, Callable[[Image.Image, Path], dict[str, Any]]] = {
    "JPEG": lambda *_: {"lossy": "JPEG"},
    "MPO": lambda *_: {"lossy": "JPEG"},
    "JPEG2000": _jpeg2000,
    "PPM": _pnm,
    "WEBP": lambda _, path: {"lossy": "WebP" if webp_loses(path) else ""},
    "AVIF": _avif,
    "SGI": _sgi,
    "IM": _im,
    "PCX": _pcx,
    "DCX": _pcx,
    "DDS": _texture,
    "BLP": _texture,
    "FTEX": _texture,
}
