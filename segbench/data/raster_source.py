"""A case from an image file and a mask file of the same size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity
from segbench.data.faults import BadFileError, Faults
from segbench.data.pairing import Pair
from segbench.data.rasters import inspect_image, inspect_mask, read_image, read_mask
from segbench.data.resize import resize_image, resize_labels
from segbench.data.sources import Picture


@dataclass(frozen=True)
class RasterSource:
    """An image and a mask; ``shape`` (C, H, W) is what they are resized to."""

    case_id: str
    group_id: str
    shape: tuple[int, ...]
    image: Path
    mask: Path
    field_of_view_mm: float | None = None  # the side of a square image, where known

    @property
    def masks(self) -> tuple[Path, ...]:
        """The one mask file."""
        return (self.mask,)

    def picture(self) -> Picture:
        """The image at ``shape``."""
        pixels, bits = read_image(self.image, channels=self.shape[0])
        side = self.field_of_view_mm
        return Picture(
            resize_image(pixels, self.shape[1:]),
            (Intensity(0.0, float(2**bits - 1), bits),) * len(pixels),
            spacing=(side / self.shape[1], side / self.shape[2]) if side else None,
        )

    def raw_mask(self) -> NDArray[np.integer]:
        """The mask's file values at ``shape``."""
        return resize_labels(read_mask(self.mask), self.shape[1:])


def raster_sources(
    pairs: Iterable[Pair],
    faults: Faults,
    *,
    group_of: Callable[[str], str] = str,
    size: int = 0,
    channels: int = 0,
    field_of_view_mm: float | None = None,
) -> list[RasterSource]:
    """The cases of matched files, their headers read; what is wrong is noted in ``faults``.

    ``size`` 0 keeps the files' own size, another makes every case a square of that side.
    """
    sources: list[RasterSource] = []
    for pair in pairs:
        try:
            header = inspect_image(pair.image)
            mask_size = inspect_mask(pair.mask)
        except BadFileError as error:
            faults.catch(error)
            continue
        if mask_size != (header.height, header.width):
            faults.add(
                pair.mask,
                f"is {mask_size[1]} x {mask_size[0]} pixels, "
                f"its image {header.width} x {header.height}",
            )
            continue
        spatial = (size, size) if size else mask_size
        shape = (channels or header.channels, *spatial)
        if sources and shape[0] != sources[0].shape[0]:
            faults.add(
                pair.image,
                f"has {shape[0]} channels, {sources[0].image.name} has {sources[0].shape[0]}",
            )
        group = group_of(pair.case_id)
        sources.append(
            RasterSource(pair.case_id, group, shape, pair.image, pair.mask, field_of_view_mm)
        )
    return sources
