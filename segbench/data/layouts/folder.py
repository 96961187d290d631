"""Any folder with ``images/`` and ``masks/``, or files that patterns or a table pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.data.coding import NOTHING_VALID, Coding, all_ignored
from segbench.data.endings import is_volume
from segbench.data.faults import Faults
from segbench.data.layouts.volumes import VolumeLayout
from segbench.data.mask_coding import (
    explained_coding,
    infer_coding,
    refuse_values,
    structure_coding,
)
from segbench.data.mask_reading import read_all_masks
from segbench.data.pairing import Pair, find_pairs
from segbench.data.patterns import pairs_by_pattern, pairs_by_table, structure_names
from segbench.data.raster_source import raster_sources
from segbench.data.rasters import read_mask
from segbench.data.regrid import ScoreOn
from segbench.data.resize import check_size
from segbench.data.scale import Scale, parse_range
from segbench.data.sources import Source
from segbench.data.splits import group_rule
from segbench.data.valid import with_valid
from segbench.data.values import ValueMap, read_values
from segbench.data.volume_source import Mode, volume_sources
from segbench.data.volumes import read_label_volume
from segbench.errors import UserError


@dataclass(frozen=True)
class Folder(VolumeLayout):
    """Images and masks of matching names, pictures or volumes of any kind that docs/data.md lists.

    Attributes:
        root: the folder that holds ``images/`` and ``masks/``.
        images: pattern of the image files, ``*_training.tif``; "" for all files of ``images/``.
        masks: that of the masks, {} being what the star matched: ``{}_manual1.gif``; several,
            with + between them, are structures of their own.
        rois: folder (or pattern) of masks of what counts, or a mask value of what does not: there
            nothing is attacked nor scored.
        table: a CSV file of paths instead (image, mask, and if known patient, split, roi).
        split: a CSV file in it (case_id, split, optionally group); "" for all cases, or the seeded
            rule where some are trained on.
        test_fraction: share of cases that the seeded rule puts in test, whole groups together.
        split_seed: another seed, another split.
        group_regex: finds the group (patient) in a file's name; "" makes each file its own.
        classes: class names, background first; () takes them from the values of the masks.
        values: mask values of the classes in order, ``0+500+205`` (& joins those of one class), or
            a TOML or CSV file.
        regions: structures that overlap, of mask values: ``"whole={1,2}; core={2}"``.
        ignore: mask value that is neither trained on nor scored; the image is changed there as
            elsewhere, which rois prevents.
        range: numbers of the file that become 0 and 1, ``0..4095``; "" for all that it can hold.
        bits: how many of the file's bits count.
        size: side to resize to; 0 keeps the files' own.
        channels: 1 gray, 3 RGB, 0 as the files are; not for volumes.
        mode: axial slices of volumes, or whole volumes.
        window: values of volumes that become 0 and 1, ``-1000..400``; "" for percentiles.
        lower: percentile of a volume's voxels that becomes 0.
        upper: percentile that becomes 1.
        nsd_tolerance: that of the surface Dice, in mm, or pixels where the spacing is unknown;
            none is the larger of 1 mm and one pixel.
        spacing: millimetres that volumes are resampled to, ``1x1x1``; "" for their own.
        score_on: resampled, or original, where networks alone are shown the resampled image.
    """

    name = "folder"

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
    images: str = ""
    masks: str = ""
    rois: str = ""
    table: str = ""
    values: str = ""
    regions: str = ""
    range: str = ""
    bits: int = 0
    window: str = ""
    spacing: str = ""
    score_on: ScoreOn = "resampled"
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
        scale = ""
        if self.spacing:
            grid = self.regrid.rule
        if self._holds_volumes:
            scale = f"; {self._window.rule}, canonical axes, {self.mode}"
        elif self._ends:
            scale = f"; {self._window.rule}"
        elif self.bits:
            scale = f"; {self.bits} bits become 0 to 1"
        return f"every case is {grid} and scored at that resolution{scale}"

    def find(self) -> Mapping[str, Sequence[Source]]:
        """The cases, split."""
        check_size(self.size)
        if self.channels not in (0, 1, 3):
            raise UserError(f"channels={self.channels} is not 1 (gray), 3 (RGB) or 0 (as stored)")
        group_of = group_rule(self.group_regex, self._split_table)
        pairs = self._pairs
        sources: Sequence[Source]
        if self._holds_volumes:
            if self.channels or self.bits:
                option = f"channels={self.channels}" if self.channels else f"bits={self.bits}"
                raise UserError(f"{option} is for images, not for volumes")
            sources = volume_sources(
                pairs,
                self._faults,
                mode=self.mode,
                window=self._window,
                group_of=group_of,
                regrid=self.regrid,
            )
        else:
            if self.spacing:
                raise UserError(f"spacing={self.spacing} is for volumes, whose files know theirs")
            scale = Scale(self._ends, self.bits)
            sources = raster_sources(
                pairs,
                self._faults,
                group_of=group_of,
                size=self.size,
                channels=self.channels,
                scale=scale,
            )
        self._faults.raise_any()
        sources = with_valid(sources, self._valid_of, self._faults)
        self._faults.raise_any()
        return self._divided(sources, pairs, group_of)

    def read_coding(self) -> Coding:
        """The coding that is given, or that the values of all masks together suggest."""
        apart = any(len(pair.masks) > 1 for pair in self._pairs)
        if apart:
            given = [] if self.ignore is None else [f"ignore={self.ignore}"]
            given += [] if self._outside is None else [f"rois={self._outside}"]
            refuse_values(self.values, self.regions, " and ".join(given))
        survey = read_all_masks(
            self._pairs,
            Faults(self._folder),
            volumes=self._holds_volumes,
            why_bad=self._nothing_scored,
        )
        try:
            if apart:
                return structure_coding(survey, structure_names(self.masks), self.classes)
            if self._value_map:
                coding = explained_coding(survey, self._value_map)
            else:
                coding = infer_coding(survey, self.classes, self._ignored)
        except UserError as error:
            raise UserError(f"{self._pairs[0].mask.parent}: {error}") from None
        outside = () if self._outside is None else (survey.value(self._outside),)
        return replace(coding, outside=outside)

    @property
    def splits_by_rule(self) -> bool:
        """Whether nobody has said who is in which split."""
        return not self.split and not any(pair.split for pair in self._pairs)

    @property
    def _outside(self) -> int | None:
        """The mask value that ``rois`` is, where it is one."""
        return int(self.rois) if self.rois.lstrip("-").isdigit() else None

    @property
    def _ignored(self) -> tuple[int, ...]:
        """The values that options ignore."""
        if self.ignore is not None and self.ignore == self._outside:
            raise UserError(f"ignore={self.ignore} and rois={self.rois} both; give one of the two")
        return tuple(value for value in (self.ignore, self._outside) if value is not None)

    def _valid_of(self, source: Source) -> NDArray[np.bool_] | None:
        """Where a case is valid, by its own file, or as a slice by its mask's values."""
        if self._outside is None or not self._in_slices:
            return source.valid()
        inside: NDArray[np.bool_] = source.raw_mask() != self._outside
        return inside

    def _nothing_scored(self, pair: Pair, mask: NDArray[np.integer]) -> str:
        """What is wrong with a mask of a case of which nothing is scored; "" where nothing is."""
        ignored = self._value_map.ignore if self._value_map else self._ignored
        ignored = tuple(value for value in ignored if value != self._outside)
        valid = None if self._outside is None else mask != self._outside
        if ignored and pair.roi:
            valid = (read_label_volume if self._holds_volumes else read_mask)(pair.roi) != 0
        if not ignored and valid is None:
            return ""
        if valid is not None and not self._in_slices and not valid.any():
            return NOTHING_VALID
        known = ~np.isin(mask, ignored)
        if valid is not None:
            known &= valid
        said = all_ignored(ignored, within=valid is not None)
        if not self._in_slices:
            return "" if known.any() else said
        empty = ~known.any((0, 1))
        if valid is not None:
            empty &= valid.any((0, 1))  # others are no cases
        found = np.flatnonzero(empty)
        count = "1 slice" if found.size == 1 else f"{found.size} slices"
        return f"{said} in {count}, the first {found[0]}" if found.size else ""

    @property
    def _in_slices(self) -> bool:
        return self._holds_volumes and self.mode == "slices"

    @property
    def _ends(self) -> tuple[float, float] | None:
        if self.range and self.window:
            raise UserError("range= and window= say the same thing twice; leave one out")
        return parse_range(self.range, "range") or parse_range(self.window, "window")

    @cached_property
    def _value_map(self) -> ValueMap | None:
        return read_values(self.values, self.regions, self.classes, self._ignored, self._folder)

    @cached_property
    def _pairs(self) -> list[Pair]:
        faults, root = self._faults, self._folder
        if self.table:
            if self.images or self.masks or self.rois:
                raise UserError("table= names all files; leave images=, masks= and rois= out")
            return pairs_by_table(root, root / self.table, faults)
        rois = self.rois if self._outside is None else ""
        if self.images or self.masks:
            return pairs_by_pattern(root, self.images, self.masks, rois, faults)
        return find_pairs(root / "images", root / "masks", faults, root / rois if rois else None)

    @cached_property
    def _holds_volumes(self) -> bool:
        kinds = {is_volume(path) for pair in self._pairs for path in pair.files}
        if len(kinds) > 1:
            raise UserError(f"{self._folder} holds both volumes and flat images; expected one kind")
        return kinds == {True}
