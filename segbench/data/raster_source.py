"""A case from image files and mask files of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.data.faults import BadFileError, Faults
from segbench.data.pairing import Pair
from segbench.data.raster_header import RasterHeader
from segbench.data.rasters import inspect_image, inspect_mask, needs_range, read_image, read_mask
from segbench.data.resize import resize_image, resize_labels
from segbench.data.scale import OWN_SCALE, Scale
from segbench.data.sources import PairSource, Picture, structure_bits


@dataclass(frozen=True)
class RasterSource(PairSource):
    """An image and its masks; ``shape`` (C, H, W) is what they are resized to."""

    scale: Scale = OWN_SCALE
    field_of_view_mm: float | None = None  # the side of a square image, where known

    def picture(self) -> Picture:
        """The image at ``shape``, its files being its channels where there are several."""
        several = len(self.pair.images) > 1
        read = [
            read_image(path, channels=1 if several else self.shape[0], scale=self.scale)
            for path in self.pair.images
        ]
        pixels = np.concatenate([image for image, _ in read])
        maps = tuple(scale for image, scale in read for _ in image)
        side = self.field_of_view_mm
        return Picture(
            resize_image(pixels, self.shape[1:]),
            maps,
            spacing=(side / self.shape[1], side / self.shape[2]) if side else None,
        )

    def raw_mask(self) -> NDArray[np.integer]:
        """The mask's values at ``shape``; of several masks, a bit for each."""
        masks = [resize_labels(read_mask(path), self.shape[1:]) for path in self.pair.masks]
        return masks[0] if len(masks) == 1 else structure_bits(masks, self.pair.masks)

    def valid(self) -> NDArray[np.bool_] | None:
        """The pixels at ``shape`` where the region's mask is not 0."""
        if self.pair.roi is None:
            return None
        inside: NDArray[np.bool_] = resize_labels(read_mask(self.pair.roi), self.shape[1:]) != 0
        return inside


def raster_sources(
    pairs: Iterable[Pair],
    faults: Faults,
    *,
    group_of: Callable[[str], str] = str,
    size: int = 0,
    channels: int = 0,
    scale: Scale = OWN_SCALE,
    field_of_view_mm: float | None = None,
) -> list[RasterSource]:
    """The cases of matched files, their headers read; what is wrong is noted in ``faults``.

    ``size`` 0 keeps the files' own size, another makes every case a square of that side.
    """
    sources: list[RasterSource] = []
    for pair in pairs:
        try:
            header = _checked_header(pair, scale)
        except BadFileError as error:
            faults.catch(error)
            continue
        spatial = (size, size) if size else (header.height, header.width)
        count = len(pair.images) if len(pair.images) > 1 else channels or header.channels
        if sources and count != sources[0].shape[0]:
            faults.add(
                pair.image,
                f"has {count} channels, {sources[0].image.name} has {sources[0].shape[0]}",
            )
        group = pair.group or group_of(pair.case_id)
        sources.append(RasterSource(pair, group, (count, *spatial), scale, field_of_view_mm))
    return sources


def _checked_header(pair: Pair, scale: Scale) -> RasterHeader:
    """The first image's header, once all files of the pair are known to be of its size."""
    first = inspect_image(pair.image)
    for path in pair.images:
        header = first if path == pair.image else inspect_image(path)
        if header.needs_range and scale.ends is None:
            raise BadFileError(path, needs_range(header))
        if len(pair.images) > 1 and header.channels != 1:
            raise BadFileError(path, "is in colour; expected gray, one file for each channel")
        _refuse_size((header.height, header.width), first, path)
    for path in pair.files[len(pair.images) :]:
        _refuse_size(inspect_mask(path), first, path)
    return first


def _refuse_size(size: tuple[int, int], image: RasterHeader, path: Path) -> None:
    if size != (image.height, image.width):
        raise BadFileError(
            path,
            f"is {size[1]} x {size[0]} pixels, its image {image.width} x {image.height}",
        )
