"""Any folder with ``images/`` and ``masks/``: PNG, JPEG, TIFF, BMP, GIF, or NIfTI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.data.coding import ALL_IGNORED, MAX_VALUES, Coding, distinct, infer_coding
from segbench.data.faults import BadFileError, Faults
from segbench.data.file_dataset import FileDataset
from segbench.data.pairing import Pair, find_pairs, is_volume
from segbench.data.raster_source import raster_sources
from segbench.data.rasters import read_mask
from segbench.data.resize import check_size
from segbench.data.roots import require_root
from segbench.data.sources import Source
from segbench.data.splits import SplitTable, group_rule, read_split_table, split_sources
from segbench.data.volume_source import Mode, Window, volume_sources
from segbench.data.volumes import read_label_volume
from segbench.errors import UserError


@dataclass(frozen=True)
class Folder(FileDataset):
    """Images and masks of equal stems (a mask's may end in ``_mask``, ``_segmentation``, ...).

    Attributes:
        root: the folder that holds ``images/`` and ``masks/``.
        split: a CSV file in it (case_id, split, optionally group); "" for the seeded rule.
        test_fraction: share of cases that the seeded rule puts in test, whole groups together.
        split_seed: another seed, another split.
        group_regex: finds the group (patient) in a file's name; "" makes each file its own.
        classes: class names, background first; () takes them from the values of the masks.
        ignore: mask value that is neither trained on nor scored.
        size: side to resize to; 0 keeps the files' own.
        channels: 1 gray, 3 RGB, 0 as the files are; not for NIfTI.
        mode: axial slices of volumes, or whole volumes.
        lower: percentile of a volume's voxels that becomes 0.
        upper: percentile that becomes 1.
        nsd_tolerance: that of the surface Dice, in mm, or pixels where the spacing is unknown;
            none is the larger of 1 mm and one pixel.
    """

    split: str = ""
    test_fraction: float = 0.3
    split_seed: int = 0
    group_regex: str = ""
    classes: tuple[str, ...] = ()
    ignore: int | None = None
    size: int = 0
    channels: int = 0
    mode: Mode = "slices"
    lower: float = 0.5
    upper: float = 99.5
    nsd_tolerance: float | None = None
    root: Path | None = None

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        side = " x ".join([str(self.size)] * self.spatial_dims)
        grid = (
            f"resized to {side}, images linearly with anti-aliasing and masks to the nearest pixel"
            if self.size
            else "kept at the size of its files"
        )
        scale = (
            f"; intensities scaled per volume from the percentiles {self.lower:g} and "
            f"{self.upper:g}, canonical axes, {self.mode}"
            if self._holds_volumes
            else ""
        )
        return f"every case is {grid} and scored at that resolution{scale}"

    def find(self) -> Mapping[str, Sequence[Source]]:
        """The cases of both folders."""
        check_size(self.size)
        if self.channels not in (0, 1, 3):
            raise UserError(f"channels={self.channels} is not 1 (gray), 3 (RGB) or 0 (as stored)")
        faults = Faults(self._folder)
        group_of = group_rule(self.group_regex, self._table)
        sources: Sequence[Source]
        if self._holds_volumes:
            if self.channels:
                raise UserError(f"channels={self.channels} is for images, not NIfTI volumes")
            window = Window(self.lower, self.upper)
            sources = volume_sources(
                self._pairs,
                faults,
                mode=self.mode,
                window=window,
                group_of=group_of,
                size=self.size,
            )
        else:
            sources = raster_sources(
                self._pairs, faults, group_of=group_of, size=self.size, channels=self.channels
            )
        self._pairing_faults.found.extend(faults.found)
        self._pairing_faults.raise_any()
        return split_sources(
            sources, self._folder, self._table, self.test_fraction, self.split_seed
        )

    def read_coding(self) -> Coding:
        """The coding that the values of all masks together suggest."""
        read = read_label_volume if self._holds_volumes else read_mask
        faults = Faults(self._folder)
        values: set[int] = set()
        for pair in self._pairs:
            try:
                mask = read(pair.mask)
            except BadFileError as error:
                faults.catch(error)
                continue
            values |= distinct(mask)
            if self.ignore is not None and (nothing := self._scores_nothing(mask)):
                faults.add(pair.mask, nothing)
            if len(values) > 2 * MAX_VALUES:  # not a coding; the rest need not be read
                break
        faults.raise_any()
        try:
            return infer_coding(values, self.classes, self.ignore)
        except UserError as error:
            raise UserError(f"{self._folder / 'masks'}: {error}") from None

    def _scores_nothing(self, mask: NDArray[np.integer]) -> str:
        """What is wrong with a mask of a case whose every pixel is ignored; "" where none is."""
        said = f"{ALL_IGNORED} {self.ignore}"
        if self._holds_volumes and self.mode == "slices":
            empty = np.flatnonzero((mask == self.ignore).all(axis=(0, 1)))
            return f"{said} in {len(empty)} slices, the first {empty[0]}" if empty.size else ""
        return said if (mask == self.ignore).all() else ""

    @cached_property
    def _folder(self) -> Path:
        return require_root("folder", self.root)

    @cached_property
    def _table(self) -> SplitTable | None:
        return read_split_table(self._folder / self.split) if self.split else None

    @cached_property
    def _pairing_faults(self) -> Faults:
        return Faults(self._folder)

    @cached_property
    def _pairs(self) -> list[Pair]:
        images, masks = self._folder / "images", self._folder / "masks"
        return find_pairs(images, masks, self._pairing_faults)

    @cached_property
    def _holds_volumes(self) -> bool:
        kinds = {is_volume(path) for pair in self._pairs for path in (pair.image, pair.mask)}
        if len(kinds) > 1:
            raise UserError(
                f"{self._folder} holds both NIfTI volumes and flat images; expected one kind"
            )
        return kinds == {True}
