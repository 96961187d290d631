"""What a WebP and an AVIF say of their pixels that Pillow does not pass on: loss, depth, end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from segbench.data.faults import BadFileError


def webp_loses(path: Path) -> bool:
    """Whether a WebP is of the kind whose compression changes values."""
    content = path.read_bytes()
    return any(kind == b"VP8 " for kind in _chunks(content))


def refuse_cut_webp(path: Path) -> None:
    """Refuse a WebP that is shorter than it says.

    Raises:
        BadFileError: it is.
    """
    content = path.read_bytes()
    if int.from_bytes(content[4:8], "little") + 8 > len(content):
        raise BadFileError(path, "is cut short (a WebP that says that it is longer)")


def avif_bits(path: Path) -> int:
    """How many bits the colours of an AVIF have, by its ``av1C`` box: 8, 10 or 12.

    AV1 Codec ISO Media File Format Binding, 2.3.
    """
    content = path.read_bytes()
    at = content.find(b"av1C")
    said = content[at + 6] if 0 <= at < len(content) - 6 else 0
    return (12 if said & 0x20 else 10) if said & 0x40 else 8


def _chunks(content: bytes) -> Iterator[bytes]:
    """The kinds of the chunks of a RIFF file."""
    at = 12
    while at + 8 <= len(content):
        yield content[at : at + 4]
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
