"""DICOM pictures: files of one each, and the frames of enhanced multi-frame files.

What the functional groups of such a file say of a frame (its place, spacing and rescale) stands in
its header as it would in that of a file of its own, so that nothing else need know of frames.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.data.faults import BadFileError
from segbench.data.volume_file import READ_ERRORS
from segbench.engine.memory import free_bytes
from segbench.errors import UserError

_GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
}
_COUNT = "NumberOfFrames"
_PREAMBLE = 144  # bytes before the group of which the file says the length
_CHUNK, _COPIES = 1 << 20, 4  # of what is unpacked: to be read it is copied
_DECODERS = dict.fromkeys(("JPEGLossless", "JPEGLosslessSV1"), "python-gdcm")


@dataclass(frozen=True, eq=False)
class Slice:
    """One picture, its header read.

    Attributes:
        frame: which frame of its file, from 0; None of a file that holds one picture.
    """

    path: Path
    header: Any
    frame: int | None = None

    @property
    def name(self) -> str:
        """The file's, and which frame."""
        return self.path.name if self.frame is None else f"{self.path.name} frame {self.frame + 1}"

    @property
    def inverted(self) -> bool:
        """Whether its numbers fall with brightness."""
        return str(self.header.get("PhotometricInterpretation", "")) == "MONOCHROME1"

    def fault(self, reason: str) -> BadFileError:
        """That it cannot be used; ``reason`` continues its name."""
        which = "" if self.frame is None else f"frame {self.frame + 1} "
        return BadFileError(self.path, which + reason)


def import_pydicom() -> Any:
    """pydicom.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise UserError(
            "DICOM is read by pydicom, which is not installed; pip install 'segbench[dicom]'"
        ) from None
    return pydicom


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """What damage makes pydicom and highdicom raise, as one sentence; ``what`` begins it.

    Raises:
        BadFileError: the file cannot be read.
    """
    pydicom = import_pydicom()
    kinds = (AttributeError, TypeError, IndexError, RuntimeError, ArithmeticError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not as the standard wants them
            yield
    except (*READ_ERRORS, *kinds, pydicom.errors.InvalidDicomError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFileError(path, f"{what} that cannot be read ({reason})") from None


def bound_deflated(path: Path) -> None:
    """Refuse a file that is deflated as a whole and unpacks to more than memory holds.

    Raises:
        BadFileError: it does.
    """
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    packed = path.read_bytes()[_PREAMBLE + int(meta.FileMetaInformationGroupLength) :]
    unpacking, free, size = zlib.decompressobj(-zlib.MAX_WBITS), free_bytes(), 0
    while packed and size <= free // _COPIES:
        size += len(unpacking.decompress(packed, _CHUNK))
        packed = unpacking.unconsumed_tail
    if packed:
        raise BadFileError(
            path, f"is deflated and unpacks to {size:,} bytes and more; {free:,} are free"
        )


def slices_of(path: Path, header: Any) -> list[Slice]:
    """The pictures of a file: its frames, where it says of each where it lies.

    Raises:
        BadFileError: it describes another number of frames than it has.
    """
    with reading(path, "has functional groups"):
        frames = header.get("PerFrameFunctionalGroupsSequence", ())
        if not frames:
            return [Slice(path, header)]
        if len(frames) != (count := int(header.get(_COUNT, 1) or 1)):
            raise BadFileError(path, f"has {count} frames and describes {len(frames)}")
        shared = list(header.get("SharedFunctionalGroupsSequence", ()))
        own = [element for element in header if element.VR != "SQ" and element.keyword != _COUNT]
        return [Slice(path, _flat(own, [*shared, group]), n) for n, group in enumerate(frames)]


def check_picture(one: Slice) -> None:
    """Refuse what is no gray picture of one frame, or does not say how it is to be read.

    Raises:
        BadFileError: it is not, or does not.
    """
    for tag in ("Rows", "Columns", "BitsAllocated", "BitsStored"):
        if said_numbers(one, tag, 1) < 1:
            raise one.fault(f"has the {tag} {one.header[tag].value}; expected 1 or more")
    for tag in ("RescaleSlope", "RescaleIntercept"):
        if tag in one.header and said_numbers(one, tag, 1) == 0 and tag == "RescaleSlope":
            raise one.fault("has the RescaleSlope 0, by which all its numbers are one")
    if int(one.header.get(_COUNT, 1) or 1) > 1:
        raise one.fault(
            "holds several frames and does not say where each lies; expected one picture per "
            "file, or an enhanced multi-frame file"
        )
    photometric = one.header.get("PhotometricInterpretation", "none")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise one.fault(f"is {photometric}; expected gray (MONOCHROME1 or MONOCHROME2)")


def said_numbers(one: Slice, tag: str, count: int) -> NDArray[np.float64]:
    """What an element of a header says, (count,).

    Raises:
        BadFileError: it is not there, or no such numbers.
    """
    if tag not in one.header:
        raise one.fault(
            f"has no {tag}, so that its place is not known" if count > 1 else f"has no {tag}"
        )
    value = one.header[tag].value
    try:
        found = np.atleast_1d(np.asarray(value, float))
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise one.fault(f"has the {tag} {value!s:.60}; expected {count} numbers")
    return found


def read_slices(slices: Sequence[Slice]) -> Iterator[NDArray[np.float64]]:
    """(rows, columns) of each, its rescale applied, and no display window.

    Raises:
        BadFileError: they cannot be read, or are not gray.
    """
    for path, some in groupby(slices, key=lambda one: one.path):
        with reading(path, "has pixels"):
            content = import_pydicom().dcmread(path)
            _require_decoder(content, path)
            found = [_values(content, one) for one in some]
        yield from found


def read_pixels(one: Slice) -> NDArray[np.float64]:
    """The same of one."""
    (values,) = read_slices([one])
    return values


def _values(content: Any, one: Slice) -> NDArray[np.float64]:
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    stored = pixel_array(content, index=one.frame)
    values: NDArray[np.float64] = np.asarray(apply_modality_lut(stored, one.header), float)
    if values.ndim != 2 or values.shape != (content.Rows, content.Columns):
        raise one.fault(f"holds {values.shape} numbers; expected one gray picture")
    if not np.isfinite(values).all():
        raise one.fault("holds pixels that are NaN or infinite")
    return values


def _require_decoder(content: Any, path: Path) -> None:
    """Refuse pixels that nothing which is installed can decompress.

    Raises:
        UserError: they are such; it says what does.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = content.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    try:
        if get_decoder(syntax).is_available:
            return
        missing = _DECODERS.get(syntax.keyword, "'segbench[dicom]'")
    except NotImplementedError:
        missing = ""
    remedy = f"pip install {missing}" if missing else "decompress it"
    raise BadFileError(path, f"is compressed as {syntax.name}, which nothing here reads; {remedy}")


def _flat(own: Sequence[Any], groups: Sequence[Any]) -> Any:
    """A header of a file's own elements and of what functional groups say, the last one's word."""
    flat = import_pydicom().Dataset()
    for element in own:
        flat.add(element)
    for group in groups:
        for sequence, names in _GROUPS.items():
            for item in group.get(sequence, ()):
                for name in names:
                    if name in item:
                        flat[name] = item[name]
    return flat
