"""Any folder with ``images/`` and ``masks/``, or files that patterns or a table pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.data.coding import ALL_IGNORED, Coding
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
from segbench.data.regrid import ScoreOn
from segbench.data.resize import check_size
from segbench.data.scale import Scale, parse_range
from segbench.data.sources import Source
from segbench.data.splits import group_rule
from segbench.data.values import ValueMap, read_values
from segbench.data.volume_source import Mode, volume_sources
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
        return self._divided(sources, pairs, group_of)

    def read_coding(self) -> Coding:
        """The coding that is given, or that the values of all masks together suggest."""
        apart = any(len(pair.masks) > 1 for pair in self._pairs)
        if apart:
            rule = "rois" if self.ignored_is_outside else "ignore"
            ignored = "" if self._ignore is None else f"{rule}={self._ignore}"
            refuse_values(self.values, self.regions, ignored)
        survey = read_all_masks(
            self._pairs,
            Faults(self._folder),
            volumes=self._holds_volumes,
            why_bad=self._all_ignored,
        )
        try:
            if apart:
                return structure_coding(survey, structure_names(self.masks), self.classes)
            if self._value_map:
                return explained_coding(survey, self._value_map)
            return infer_coding(survey, self.classes, self._ignore)
        except UserError as error:
            raise UserError(f"{self._pairs[0].mask.parent}: {error}") from None

    @property
    def splits_by_rule(self) -> bool:
        """Whether nobody has said who is in which split."""
        return not self.split and not any(pair.split for pair in self._pairs)

    @property
    def ignored_is_outside(self) -> bool:
        """Whether ``rois`` is a mask value."""
        return self.rois.lstrip("-").isdigit()

    def _all_ignored(self, mask: NDArray[np.integer]) -> str:
        """What is wrong with a mask of a case whose every pixel is ignored; "" where none is."""
        ignored = [] if self._ignore is None else [self._ignore]
        if self._value_map:
            ignored = list(self._value_map.ignore)
        if not ignored:
            return ""
        unknown, said = np.isin(mask, ignored), f"{ALL_IGNORED} {'+'.join(map(str, ignored))}"
        if self._holds_volumes and self.mode == "slices":
            empty = np.flatnonzero(unknown.all(axis=(0, 1)))
            return f"{said} in {len(empty)} slices, the first {empty[0]}" if empty.size else ""
        return said if unknown.all() else ""

    @property
    def _ignore(self) -> int | None:
        if self.ignore is not None and self.ignored_is_outside:
            raise UserError(f"ignore={self.ignore} and rois={self.rois} both; give one of the two")
        return int(self.rois) if self.ignored_is_outside else self.ignore

    @property
    def _ends(self) -> tuple[float, float] | None:
        if self.range and self.window:
            raise UserError("range= and window= say the same thing twice; leave one out")
        return parse_range(self.range, "range") or parse_range(self.window, "window")

    @cached_property
    def _value_map(self) -> ValueMap | None:
        return read_values(self.values, self.regions, self.classes, self._ignore, self._folder)

    @cached_property
    def _pairs(self) -> list[Pair]:
        faults, root = self._faults, self._folder
        if self.table:
            if self.images or self.masks or self.rois:
                raise UserError("table= names all files; leave images=, masks= and rois= out")
            return pairs_by_table(root, root / self.table, faults)
        rois = "" if self.ignored_is_outside else self.rois
        if self.images or self.masks:
            return pairs_by_pattern(root, self.images, self.masks, rois, faults)
        return find_pairs(root / "images", root / "masks", faults, root / rois if rois else None)

    @cached_property
    def _holds_volumes(self) -> bool:
        kinds = {is_volume(path) for pair in self._pairs for path in pair.files}
        if len(kinds) > 1:
            raise UserError(f"{self._folder} holds both volumes and flat images; expected one kind")
        return kinds == {True}
