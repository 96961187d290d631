"""Volumes that end before their voxels do, which ITK takes for whole: what their headers promise.

Each format here has a header of a few fields, so the length of a whole file is known; NRRD and
MetaImage are held by ITK, and by the checksum of what they compress.
"""

from __future__ import annotations

import gzip
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segbench.atomic import require_regular
from segbench.data.endings import suffix_of

_GIPL_HEADER, _MRC_HEADER = 256, 1024  # bytes before the voxels
_STRIPS, _LENGTHS, _SUBFILE, _ZEISS = 273, 279, 254, 34412  # tags of TIFF, the last LSM's own
_BIG_ENDIAN = b"\x11\x11"  # MRC's machine stamp
_VTK_DATA = re.compile(
    rb"^(?:(?:SCALARS[^\n]*\n)(?:LOOKUP_TABLE[^\n]*\n)?|(?:VECTORS|COLOR_SCALARS|TENSORS)[^\n]*\n)",
    re.MULTILINE | re.IGNORECASE,
)
_VTK_HEAD = 1 << 14


def check_length(path: Path, numbers: int, size: int) -> None:
    """Refuse a file that does not hold all numbers, of ``size`` bytes each, that it declares.

    Raises:
        OSError: it does not, or its voxels are compressed and damaged.
    """
    if suffix_of(path) == ".vtk":
        _check_vtk(path, numbers, size)
    else:
        _CHECKS.get(suffix_of(path), _check_text_header)(path, numbers * size)


def _require(found: int, expected: int) -> None:
    if found < expected:
        raise OSError(f"it has {found:,} bytes, and declares {expected:,}")


def check_hdf5(path: Path) -> None:
    """Refuse a HDF5 or MINC file that is shorter than its superblock says.

    HDF Group, "HDF5 File Format Specification", II.A. Its library would refuse it too, in forty
    lines on standard error.

    Raises:
        OSError: it is, or it is no such file.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head.startswith(b"\x89HDF\r\n\x1a\n") or len(head) < 64:
        raise OSError("it does not begin as HDF5 does")
    at, wide = (40, head[13]) if head[8] < 2 else (12 + 2 * head[9], head[9])
    _require(path.stat().st_size, int.from_bytes(head[at : at + wide], "little"))


def _check_gipl(path: Path, count: int) -> None:
    packed = path.suffix.lower() == ".gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        found = sum(len(chunk) for chunk in iter(lambda: file.read(1 << 20), b""))
    _require(found, _GIPL_HEADER + count)


def _check_mrc(path: Path, count: int) -> None:
    """MRC2014: Cheng et al., Journal of Structural Biology 192:146-150, 2015."""
    with path.open("rb") as file:
        head = file.read(_MRC_HEADER)
    _require(len(head), _MRC_HEADER)
    order = ">" if head[212:214] == _BIG_ENDIAN else "<"
    (mode,) = struct.unpack(f"{order}i", head[12:16])
    (extended,) = struct.unpack(f"{order}i", head[92:96])
    start = _MRC_HEADER + max(extended, 0)
    _require(path.stat().st_size, start + count)
    if mode == 0 and count and np.memmap(path, "u1", "r", start, (count,)).max() > 127:
        raise OSError(
            "it holds bytes above 127, which MRC2014 takes for negative and ITK does not; save it "
            "in 16 bits"
        )


def _check_spr(path: Path, count: int) -> None:
    """Stimulate's voxels lie in a file of their own."""
    head = path.read_bytes()
    if re.search(rb"^dataType:\s*LWORD", head, re.MULTILINE):
        raise OSError("it holds whole numbers of 32 bits, which ITK takes for 16")
    named = re.search(rb"^stimFileName:\s*(\S+)", head, re.MULTILINE)
    voxels = path.parent / (named[1].decode() if named else path.with_suffix(".sdt").name)
    require_regular(voxels)
    _require(voxels.stat().st_size, count)


def _check_vtk(path: Path, numbers: int, size: int) -> None:
    """The legacy format, binary or of text."""
    with path.open("rb") as file:
        head = file.read(_VTK_HEAD)
    kind, match = [*head.split(b"\n", 3), b"", b"", b""][2], _VTK_DATA.search(head)
    if match is None:
        raise OSError("its header does not say where its voxels begin")
    if kind.strip().upper() == b"BINARY":
        if kind.endswith(b"\r"):
            raise OSError("its line ends were changed on the way, and its voxels with them")
        _require(path.stat().st_size, match.end() + numbers * size)
        return
    text = path.read_bytes()[match.end() :]
    found = len(text.split())
    if found < numbers or (found == numbers and not text[-1:].isspace()):
        raise OSError(f"it has {found:,} numbers, or a part of the last, and declares {numbers:,}")


def _check_lsm(path: Path, count: int) -> None:
    """A TIFF with small pictures between its planes, of which ITK leaves out what is not there."""
    try:
        planes, said = _lsm_planes(path)
    except (SyntaxError, UserWarning) as error:
        raise OSError(str(error)) from None
    deep, channels, times = struct.unpack("<3i", said[16:28])
    if (planes, channels, times) != (deep, 1, 1):
        raise OSError(
            f"it has {planes} planes, and declares {deep} of {channels} channels at {times} times"
        )


def _lsm_planes(path: Path) -> tuple[int, bytes]:
    """How many planes lie in it, and what Zeiss's tag says."""
    planes, said = 0, b""
    with warnings.catch_warnings(), Image.open(path, formats=("TIFF",)) as picture:
        warnings.simplefilter("error", UserWarning)  # of tables that are cut
        for page in range(getattr(picture, "n_frames", 1)):
            picture.seek(page)
            tags: Any = picture.tag_v2  # type: ignore[attr-defined]
            said = said or tags.get(_ZEISS, b"")
            planes += tags.get(_SUBFILE, 0) != 1
            for start, length in zip(tags.get(_STRIPS, ()), tags.get(_LENGTHS, ()), strict=False):
                _require(path.stat().st_size, start + length)
    return planes, said


def _check_text_header(path: Path, count: int) -> None:
    """A NRRD or MetaImage: ITK does not look at a checksum, nor at bytes behind the voxels."""
    head, body = _parts(path)
    pairs = (re.split("[=:]", line, maxsplit=1) for line in head.splitlines())
    says = {pair[0].strip().lower(): pair[1].strip() for pair in pairs if len(pair) == 2}
    file, start = path, len(head.encode("latin-1"))
    other = says.get("elementdatafile", says.get("data file", says.get("datafile", "LOCAL")))
    if other != "LOCAL":
        file, start = path.parent / other, 0
    packed = says.get("compresseddata", "").lower() == "true" or says.get("encoding") in (
        "gzip",
        "gz",
    )
    more = path.stat().st_size - start - count
    bare = not packed and file == path and says.get("encoding", "raw") == "raw"
    if bare and more > 0 and "byte skip" not in says:
        raise OSError(f"it has {more:,} bytes behind its voxels")
    if not packed or (file == path and not body):
        return
    require_regular(file)
    stream = zlib.decompressobj(wbits=47)  # zlib's and gzip's, by their first bytes
    with file.open("rb") as opened:
        opened.seek(start)
        while not stream.eof and (chunk := opened.read(1 << 20)):
            stream.decompress(chunk)
    if not stream.eof:
        raise OSError("its compressed voxels end before their end")


def _parts(path: Path) -> tuple[str, bool]:
    """The text at the beginning of a file, and whether voxels follow it."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if start.startswith(b"NRRD"):
        end = min(
            (start.index(mark) + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if mark in start),
            default=len(start),
        )
    else:
        match = re.search(rb"ElementDataFile\s*=[^\n]*\n", start)
        end = match.end() if match else len(start)
    return start[:end].decode("latin-1"), len(start) > end


_CHECKS: Mapping[str, Callable[[Path, int], None]] = {
    ".gipl": _check_gipl,
    ".gipl.gz": _check_gipl,
    ".mrc": _check_mrc,
    ".rec": _check_mrc,
    ".spr": _check_spr,
    ".lsm": _check_lsm,
}
