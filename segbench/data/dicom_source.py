"""Cases from DICOM: a series as a volume, or a radiograph as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity
from segbench.data.dicom_frames import Slice, read_pixels
from segbench.data.dicom_labels import read_structures
from segbench.data.dicom_series import Series, read_series, whole_bits
from segbench.data.endings import is_volume
from segbench.data.faults import BadFileError
from segbench.data.rasters import read_mask
from segbench.data.resize import resize_image, resize_labels
from segbench.data.scale import to_unit
from segbench.data.sources import PairSource, Picture
from segbench.data.volume_source import VolumeSource
from segbench.data.volumes import read_label_volume


@dataclass(frozen=True)
class SeriesSource(VolumeSource):
    """A series, or its slice at ``depth``, with its structures or a mask file beside it."""

    series: Series | None = None
    structures: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every slice, and the mask."""
        return (*self._series.files, *self.pair.masks)

    @property
    def _series(self) -> Series:
        assert self.series
        return self.series

    def _scaled(
        self, path: Path
    ) -> Callable[[], tuple[NDArray[np.float32], tuple[Intensity, ...]]]:
        def read() -> tuple[NDArray[np.float32], tuple[Intensity, ...]]:
            scaled, maps = self.window.apply(read_series(self._series), self.header.bits, path)
            if not self._series.slices[0].inverted:
                return scaled, maps
            return 1 - scaled, tuple(Intensity(m.high, m.low, m.bits) for m in maps)

        return read

    def raw_mask(self) -> NDArray[np.integer]:
        """The mask file's values at ``shape``; of segmentations, a bit for each structure."""
        masks = [self._labels(path) for path in self.pair.masks]
        return np.bitwise_or.reduce(masks) if self.structures else masks[0]

    def _labels(self, path: Path) -> NDArray[np.integer]:
        def read() -> tuple[NDArray[np.integer], None]:
            if is_volume(path):
                return read_label_volume(path), None
            return read_structures(path, self._series, self.structures), None

        labels, _ = self._read(path, ("labels", self._series.uid, self.structures), read)
        return resize_labels(
            labels if self.depth is None else labels[..., self.depth], self.shape[1:]
        )


@dataclass(frozen=True)
class RadiographSource(PairSource):
    """A radiograph, bright where it is to be seen bright, and a mask file beside it."""

    one: Slice
    ends: tuple[float, float] | None = None
    sized: bool = True  # False: its distances are in pixels, though its header knows millimetres

    def picture(self) -> Picture:
        """The image at ``shape``."""
        values, header = read_pixels(self.one)[None], self.one.header
        bits = whole_bits(header)
        low, high = self.ends or _stored_range(header, self.image)
        known = Intensity(low, high, bits)
        pixels = to_unit(values, known)
        if self.one.inverted:
            pixels, known = 1 - pixels, Intensity(high, low, bits)
        spacing = pixel_spacing(header) if self.sized else None
        scaled = None
        if spacing is not None:
            old, new = values.shape[1:], self.shape[1:]
            scaled = tuple(s * a / b for s, a, b in zip(spacing, old, new, strict=True))
        return Picture(resize_image(pixels, self.shape[1:]), (known,), spacing=scaled)

    def raw_mask(self) -> NDArray[np.integer]:
        """The mask's values at ``shape``."""
        return resize_labels(read_mask(self.mask), self.shape[1:])

    def valid(self) -> None:
        """Everything counts."""


def pixel_spacing(header: Any) -> tuple[float, ...] | None:
    """Millimetres from row to row and column to column, in the patient or at the detector.

    None where the header does not say, or says what is no length.
    """
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        said = tuple(map(float, header.get(name) or ()))
        if len(said) == 2 and all(0 < size < math.inf for size in said):
            return said
    return None


def _stored_range(header: Any, path: Path) -> tuple[float, float]:
    """The least and greatest number that the file can hold, in units of the modality."""
    get = header.get
    if get("ModalityLUTSequence") is not None:
        raise BadFileError(
            path, "maps its numbers by a table; say what is black and white (window=)"
        )
    bits, signed = int(get("BitsStored")), bool(get("PixelRepresentation", 0))
    slope, intercept = float(get("RescaleSlope", 1)), float(get("RescaleIntercept", 0))
    least = -(2 ** (bits - 1)) if signed else 0
    return least * slope + intercept, (least + 2**bits - 1) * slope + intercept
