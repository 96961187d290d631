"""Cases from a NIfTI volume: its axial slices, or the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity
from segbench.data.faults import BadFileError, Faults
from segbench.data.pairing import Pair
from segbench.data.resize import resize_image, resize_labels
from segbench.data.sources import Picture
from segbench.data.volume_cache import VOLUMES
from segbench.data.volumes import (
    VolumeHeader,
    inspect_volume,
    read_label_volume,
    read_voxels,
    same_place,
)
from segbench.errors import UserError

Mode = Literal["slices", "volumes"]


@dataclass(frozen=True)
class Window:
    """Which percentiles of a volume become 0 and 1; what lies outside is clipped."""

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not 0 <= self.lower < self.upper <= 100:
            raise UserError(
                f"lower={self.lower:g}, upper={self.upper:g} are not percentiles; "
                "expected 0 <= lower < upper <= 100"
            )


@dataclass(frozen=True)
class VolumeSource:
    """A volume, or its axial slice at ``depth``; ``shape`` is (C, X, Y[, Z]), canonical axes."""

    case_id: str
    group_id: str
    shape: tuple[int, ...]
    image: Path
    mask: Path
    header: VolumeHeader
    window: Window
    depth: int | None = None

    @property
    def masks(self) -> tuple[Path, ...]:
        """The one mask file."""
        return (self.mask,)

    def picture(self) -> Picture:
        """The image at ``shape``, scaled by the percentiles of its whole volume, per channel."""
        scaled, maps = VOLUMES.get(self.image, self.window, self._scaled)
        pixels = scaled if self.depth is None else scaled[..., self.depth]
        old, new = pixels.shape[1:], self.shape[1:]
        spacing = (s * a / b for s, a, b in zip(self.header.spacing, old, new, strict=False))
        return Picture(
            resize_image(pixels, new).copy(),
            intensity=maps,
            spacing=tuple(spacing),
            affine=self.header.affine,
            depth=self.depth,
        )

    def raw_mask(self) -> NDArray[np.integer]:
        """The labels' file values at ``shape``."""
        labels, _ = VOLUMES.get(self.mask, "labels", lambda: (read_label_volume(self.mask), None))
        return resize_labels(
            labels if self.depth is None else labels[..., self.depth], self.shape[1:]
        )

    def _scaled(self) -> tuple[NDArray[np.float32], tuple[Intensity, ...]]:
        voxels = read_voxels(self.image)  # (C, X, Y, Z)
        scaled = np.empty(voxels.shape, dtype=np.float32)
        maps = []
        for channel, values in enumerate(voxels):
            low, high = np.percentile(values, [self.window.lower, self.window.upper]).tolist()
            high = high if high > low else low + 1.0
            scaled[channel] = np.clip((values.astype(np.float64) - low) / (high - low), 0.0, 1.0)
            maps.append(Intensity(low, high, self.header.bits))
        return scaled, tuple(maps)


def volume_sources(
    pairs: Iterable[Pair],
    faults: Faults,
    *,
    mode: Mode,
    window: Window,
    group_of: Callable[[str], str] = str,
    size: int = 0,
) -> list[VolumeSource]:
    """The cases of matched NIfTI files, their headers read; faults are noted in ``faults``.

    ``size`` 0 keeps the grid, another makes every slice a square, every volume a cube.
    """
    sources: list[VolumeSource] = []
    for pair in pairs:
        try:
            header = _checked_header(pair)
        except BadFileError as error:
            faults.catch(error)
            continue
        if sources and header.channels != sources[0].header.channels:
            faults.add(
                pair.image,
                f"has {header.channels} channels, {sources[0].image.name} "
                f"has {sources[0].header.channels}",
            )
        axes = 3 if mode == "volumes" else 2
        shape = (header.channels, *((size,) * axes if size else header.shape[:axes]))
        volume = VolumeSource(
            pair.case_id, group_of(pair.case_id), shape, pair.image, pair.mask, header, window
        )
        sources += [volume] if mode == "volumes" else _slices(volume)
    return sources


def _slices(volume: VolumeSource) -> list[VolumeSource]:
    """The axial slices of a volume, one case each."""
    return [
        replace(volume, case_id=f"{volume.case_id}_z{z:03d}", depth=z)
        for z in range(volume.header.shape[2])
    ]


def _checked_header(pair: Pair) -> VolumeHeader:
    header, mask = inspect_volume(pair.image), inspect_volume(pair.mask)
    if mask.channels != 1:
        raise BadFileError(pair.mask, f"has {mask.channels} channels; expected one label per voxel")
    if mask.shape != header.shape:
        raise BadFileError(pair.mask, f"has {mask.shape} voxels, its image {header.shape}")
    if not same_place(header, mask):
        raise BadFileError(pair.mask, "lies elsewhere than its image (their affines differ)")
    return header
