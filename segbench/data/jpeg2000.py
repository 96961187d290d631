"""What a JPEG 2000 says of its pixels that Pillow does not pass on: depth, sign, loss, its end.

ISO/IEC 15444-1, annex A (the code stream) and annex I (the boxes of a JP2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from segbench.data.faults import BadFileError

_START, _SIZE, _CODING = b"\xff\x4f", b"\xff\x51", b"\xff\x52"
_TILE_PART, _DATA, _END = b"\xff\x90", b"\xff\x93", b"\xff\xd9"
_CUT = "is cut short (a JPEG 2000 without the end of its code stream)"


@dataclass(frozen=True)
class Codestream:
    """The main header.

    Attributes:
        size: width and height.
        bits: of each component.
        signed: whether any component is.
        reversible: whether the wavelet is the one that gives whole numbers back.
    """

    size: tuple[int, int]
    bits: tuple[int, ...]
    signed: bool
    reversible: bool


def codestream(path: Path) -> Codestream:
    """The main header of a file.

    Raises:
        BadFileError: it ends too early.
    """
    content = path.read_bytes()
    at, end = _stream(content, path)
    size, bits = (0, 0), tuple[int, ...]()
    signed = reversible = False
    at += 2
    while (marker := content[at : at + 2]) != _TILE_PART:
        if at + 4 > end:
            raise BadFileError(path, _CUT)
        if marker == _SIZE:
            width, height, left, top = struct.unpack_from(">4I", content, at + 6)
            size = width - left, height - top
            count = int.from_bytes(content[at + 38 : at + 40], "big")
            depths = content[at + 40 : at + 40 + 3 * count : 3]
            bits = tuple((depth & 0x7F) + 1 for depth in depths)
            signed = any(depth & 0x80 for depth in depths)
        elif marker == _CODING:
            reversible = content[at + 13 : at + 14] == b"\1"
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return Codestream(size, bits, signed, reversible)


def refuse_cut(path: Path) -> None:
    """Refuse a code stream whose parts do not all lie in the file.

    Raises:
        BadFileError: it has no end.
    """
    content = path.read_bytes()
    at, end = _stream(content, path)
    at = content.find(_TILE_PART, at)
    while 0 <= at < end and content[at : at + 2] == _TILE_PART:
        length = int.from_bytes(content[at + 6 : at + 10], "big")
        at = at + length if length else content.rfind(_END, at)
    if not 0 <= at <= end - 2 or content[at : at + 2] != _END:
        raise BadFileError(path, _CUT)


def colour_profile(path: Path) -> bytes:
    """What its box of the colour space holds as a profile; nothing of an enumerated one."""
    content = path.read_bytes()
    at = content.find(b"colr", 0, content.find(_START))
    if at < 0 or content[at + 4 : at + 5] not in (b"\2", b"\3"):
        return b""
    return content[at + 7 : at - 4 + int.from_bytes(content[at - 4 : at], "big")]


def _stream(content: bytes, path: Path) -> tuple[int, int]:
    """Where the code stream begins and ends: the whole file, or a box of it."""
    at = 0
    while not content.startswith(_START, at):
        length = int.from_bytes(content[at : at + 4], "big")
        kind, head = content[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        length = length or len(content) - at
        if length < head or at + length > len(content):
            raise BadFileError(path, _CUT)
        if kind == b"jp2c":
            return at + head, at + length
        at += length
        if at == len(content):
            raise BadFileError(path, _CUT)
    return at, len(content)
