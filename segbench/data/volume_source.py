"""Cases from volumes: their axial slices, or the whole of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity
from segbench.data.faults import BadFileError, Faults
from segbench.data.pairing import Pair
from segbench.data.regrid import OWN_GRID, Regrid
from segbench.data.resize import resize_image, resize_labels
from segbench.data.sources import PairSource, Picture, structure_bits
from segbench.data.volume_cache import VOLUMES, Record
from segbench.data.volumes import (
    VolumeHeader,
    inspect_volume,
    read_label_volume,
    read_voxels,
    same_place,
)
from segbench.data.window import Window

Mode = Literal["slices", "volumes"]


@dataclass(frozen=True)
class VolumeSource(PairSource):
    """A volume, or its axial slice at ``depth``; ``shape`` is (C, X, Y[, Z]), canonical axes."""

    header: VolumeHeader
    window: Window
    depth: int | None = None

    @property
    def case_id(self) -> str:
        """The pair's, and which slice."""
        return self.pair_id if self.depth is None else f"{self.pair_id}_z{self.depth:03d}"

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm along the axes of its file, or slice."""
        return self.header.spacing[: len(self.shape) - 1]

    def picture(self) -> Picture:
        """The image at ``shape``, scaled by the window of its whole volume, per channel."""
        read = [self._read(path, self.window, self._scaled(path)) for path in self.pair.images]
        scaled = read[0][0] if len(read) == 1 else np.concatenate([pixels for pixels, _ in read])
        maps: tuple[Intensity, ...] = tuple(scale for _, scales in read for scale in scales)
        pixels = scaled if self.depth is None else scaled[..., self.depth]
        old, new = pixels.shape[1:], self.shape[1:]
        spacing = (s * a / b for s, a, b in zip(self.header.spacing, old, new, strict=False))
        resized = resize_image(pixels, new)
        return Picture(
            resized if self.depth is None else resized.copy(),
            intensity=maps,
            spacing=tuple(spacing),
            affine=self.header.affine,
            depth=self.depth,
        )

    def raw_mask(self) -> NDArray[np.integer]:
        """The labels' file values at ``shape``; of several masks, a bit for each."""
        masks = [self._labels(path) for path in self.pair.masks]
        return masks[0] if len(masks) == 1 else structure_bits(masks, self.pair.masks)

    def valid(self) -> NDArray[np.bool_] | None:
        """The voxels at ``shape`` where the region's mask is not 0."""
        return None if self.pair.roi is None else self._labels(self.pair.roi) != 0

    def _read(self, path: Path, settings: Hashable, read: Callable[[], Record]) -> Record:
        """What a file holds; of slices it is kept for the next of them."""
        return read() if self.depth is None else VOLUMES.get(path, settings, read)

    def _labels(self, path: Path) -> NDArray[np.integer]:
        labels, _ = self._read(path, "labels", lambda: (read_label_volume(path), None))
        return resize_labels(
            labels if self.depth is None else labels[..., self.depth], self.shape[1:]
        )

    def _scaled(
        self, path: Path
    ) -> Callable[[], tuple[NDArray[np.float32], tuple[Intensity, ...]]]:
        def read() -> tuple[NDArray[np.float32], tuple[Intensity, ...]]:
            bits = self.header.bits if path == self.image else inspect_volume(path).bits
            return self.window.apply(read_voxels(path), bits, path)

        return read


def volume_sources(
    pairs: Iterable[Pair],
    faults: Faults,
    *,
    mode: Mode,
    window: Window,
    group_of: Callable[[str], str] = str,
    regrid: Regrid = OWN_GRID,
) -> list[VolumeSource]:
    """The cases of matched volumes, their headers read; faults are noted in ``faults``."""
    sources: list[VolumeSource] = []
    for pair in pairs:
        try:
            header, channels = _checked_header(pair)
        except BadFileError as error:
            faults.catch(error)
            continue
        if sources and channels != sources[0].shape[0]:
            faults.add(
                pair.image,
                f"has {channels} channels, {sources[0].image.name} has {sources[0].shape[0]}",
            )
        axes = 3 if mode == "volumes" else 2
        shape = (channels, *regrid.case_grid(header.shape[:axes], header.spacing[:axes]))
        group = pair.group or group_of(pair.case_id)
        volume = VolumeSource(pair, group, shape, header, window)
        slices = range(header.shape[2]) if mode == "slices" else ()
        sources += [replace(volume, depth=z) for z in slices] or [volume]
    return sources


def _checked_header(pair: Pair) -> tuple[VolumeHeader, int]:
    """The first image's header, once all files of the pair lie where it lies; and all channels."""
    header = inspect_volume(pair.image)
    channels = header.channels
    for path in pair.files[1:]:
        other = inspect_volume(path)
        if path in pair.images:
            channels += other.channels
        elif other.channels != 1:
            raise BadFileError(path, f"has {other.channels} channels; expected one label per voxel")
        if other.shape != header.shape:
            raise BadFileError(path, f"has {other.shape} voxels, its image {header.shape}")
        if not same_place(header, other):
            raise BadFileError(path, "lies elsewhere than its image (their affines differ)")
    return header, channels
