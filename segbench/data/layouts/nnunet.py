"""A raw data set of nnU-Net v2, in 2-D or 3-D, with its channels, regions, ignored label and folds.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 18:203-211, 2021; the formats are those of nnU-Net 2.8.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segbench.atomic import read_regular
from segbench.data.coding import Coding
from segbench.data.endings import (
    SOME_SUFFIXES,
    SUFFIXES,
    TIFF_SUFFIXES,
    VOLUME_SUFFIXES,
    why_refused,
)
from segbench.data.layouts.described import check_channels, described_coding, read_description
from segbench.data.layouts.volumes import VolumeLayout, by_split
from segbench.data.pairing import Pair, normal
from segbench.data.raster_source import raster_sources
from segbench.data.regrid import ScoreOn
from segbench.data.resize import check_size
from segbench.data.scale import Scale
from segbench.data.sources import Source
from segbench.data.splits import seeded_splits
from segbench.data.tiff_stacks import is_stack, spacing_file
from segbench.data.volume_source import Mode, volume_sources
from segbench.errors import UserError

_EXPECTED = "a folder such as Dataset004_Hippocampus with dataset.json, imagesTr and labelsTr"
_FOLDS = "splits_final.json"
_PARTS = (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"))


@dataclass(frozen=True)
class NnUNet(VolumeLayout):
    """``DatasetXXX_NAME`` with ``imagesTr/CASE_0000.nii.gz`` and ``labelsTr/CASE.nii.gz``.

    Attributes:
        root: that folder.
        split: ``fold:0`` for a fold of splits_final.json, whose val is test; "" for imagesTs and
            labelsTs as test where both are there, else for a seeded rule.
        mode: whole volumes, or their axial slices.
        size: side of the square or cube that every case is resized to; 0 keeps its own grid.
        window: values that become 0 and 1, ``-1000..400``; "" for percentiles of each volume, or
            all that a picture's file can hold.
        lower: percentile of a volume's voxels, per channel, that becomes 0.
        upper: percentile that becomes 1.
        test_fraction: share of cases that the seeded rule puts in test.
        split_seed: another seed, another split.
        nsd_tolerance: that of the surface Dice, in mm, or pixels where the spacing is unknown;
            none is the larger of 1 mm and one pixel.
        spacing: millimetres that volumes are resampled to, ``1x1x1``; "" for their own.
        score_on: resampled, or original, where networks alone are shown the resampled image.
    """

    name = "nnunet"

    split: str = ""
    mode: Mode = "volumes"
    size: int = 0
    window: str = ""
    lower: float = 0.5
    upper: float = 99.5
    test_fraction: float = 0.3
    split_seed: int = 0
    nsd_tolerance: float | None = None
    spacing: str = ""
    score_on: ScoreOn = "resampled"
    root: Path | None = None

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        return f"{self._window.rule}; every case is {self.regrid.rule} and scored there"

    @property
    def splits_by_rule(self) -> bool:
        """Whether nobody has said who is in which split."""
        return not self.split and not any(pair.split for pair in self._pairs)

    def find(self) -> Mapping[str, Sequence[Source]]:
        """The labelled cases."""
        check_size(self.size)
        self._faults.raise_any()
        sources: Sequence[Source]
        if self._holds_volumes:
            self._note_spacings()
            sources = volume_sources(
                self._pairs, self._faults, mode=self.mode, window=self._window, regrid=self.regrid
            )
        else:
            scale = Scale(self._ends)
            sources = raster_sources(self._pairs, self._faults, size=self.size, scale=scale)
        check_channels(sources, self._description, self._faults)
        self._faults.raise_any()
        return by_split(sources, self._split_of(), ("train", "test"))

    def read_coding(self) -> Coding:
        """``labels`` of dataset.json."""
        return described_coding(self._description.get("labels"), self._description_file)

    def _split_of(self) -> dict[str, str]:
        names = [pair.case_id for pair in self._pairs]
        if self.split:
            return self._fold(names)
        if any(pair.split for pair in self._pairs):
            return {pair.case_id: pair.split or "train" for pair in self._pairs}
        splits = seeded_splits({name: name for name in names}, self.test_fraction, self.split_seed)
        return {case: name for name, cases in splits.items() for case in cases}

    def _fold(self, names: Sequence[str]) -> dict[str, str]:
        """Case -> train or test by a fold; what it does not name is test, or left to another."""
        match = re.fullmatch(r"fold:(\d+)", self.split)
        if not match:
            raise UserError(
                f"split={self.split!r} is not a fold; expected fold:0 or another number"
            )
        path, number = self._folds_file(), int(match[1])
        try:
            folds = json.loads(read_regular(path).decode())
            fold = folds[number]
            parts = {normal(name): "train" for name in fold["train"]}
            parts |= {normal(name): "test" for name in fold["val"]}
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{path} has no fold {number}: {type(error).__name__} {error}"
            ) from None
        strange = sorted(parts.keys() - set(names))
        if strange:
            raise UserError(f"{path} names {', '.join(strange[:20])}, which {self._folder} lacks")
        rest = [name for name in names if name not in parts]
        if rest:
            self._faults.note(f"{len(rest)} cases are in no part of fold {number} (--split rest)")
        return parts | dict.fromkeys(rest, "rest")

    def _folds_file(self) -> Path:
        """Beside the raw data, or where nnU-Net keeps it."""
        given = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112 - so nnU-Net calls it
        roots = [Path(given)] if given else []
        roots += [self._folder.parent.parent / "nnUNet_preprocessed"]
        places = [self._folder / _FOLDS, *(root / self._folder.name / _FOLDS for root in roots)]
        found = next((path for path in places if path.exists()), None)
        if found is None:
            raise UserError(f"there is no {_FOLDS} in {' or '.join(map(str, places))}")
        return found

    @cached_property
    def _pairs(self) -> list[Pair]:
        pairs: list[Pair] = []
        for images, labels in _PARTS:
            pairs += self._pairs_of(self._folder / images, self._folder / labels)
        if not pairs:
            self._faults.add(self._folder / "imagesTr", "holds no case with labels")
        tested = any(pair.split == "test" for pair in pairs)
        return [pair if tested else _without_split(pair) for pair in pairs]

    def _pairs_of(self, images: Path, labels: Path) -> list[Pair]:
        if not images.is_dir() or not labels.is_dir():
            if images.is_dir() and (count := len(self._channels_in(images))):
                self._faults.note(
                    f"{count} cases of {images.name}/ have no labels and are left out"
                )
            return []
        pairs = []
        split = "train" if images.name.endswith("Tr") else "test"
        channels = self._channels_in(images)
        for case, files in sorted(channels.items()):
            mask = labels / f"{case}{self._ending}"
            if not mask.exists():
                self._faults.add(files[0], f"has no labels {mask.name} in {labels.name}/")
            else:
                pairs.append(Pair(normal(case), tuple(files), (mask,), split=split))
        strays = [
            path
            for path in sorted(labels.iterdir())
            if path.name.endswith(self._ending)
            and path.name.removesuffix(self._ending) not in channels
        ]
        for path in strays:
            self._faults.add(path, f"has no image in {images.name}/")
        return pairs

    def _channels_in(self, folder: Path) -> dict[str, list[Path]]:
        pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(self._ending)}")
        found: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(folder.iterdir()):
            if match := pattern.fullmatch(path.name):
                found[match[1]].append(path)
        return found

    @cached_property
    def _holds_volumes(self) -> bool:
        """By the files' ending; a TIFF may be a picture, or a stack of planes."""
        if self._ending.lower() not in TIFF_SUFFIXES:
            return self._ending.lower() in VOLUME_SUFFIXES
        return bool(self._pairs) and is_stack(self._pairs[0].image)

    def _note_spacings(self) -> None:
        if self._ending.lower() not in TIFF_SUFFIXES:
            return
        unknown = [pair for pair in self._pairs if spacing_file(pair.image) is None]
        if unknown:
            self._faults.note(
                f"{len(unknown)} stacks have no spacing (CASE.json beside them): 1 x 1 x 1 mm, as "
                "nnU-Net takes it"
            )

    @property
    def _ending(self) -> str:
        """Of the files, as dataset.json writes it; of a header and its voxels, the voxels'."""
        ending = str(self._description.get("file_ending", ".nii.gz"))
        if re.fullmatch(r"\.hdr(\.gz)?", ending):
            ending = ending.replace("hdr", "img")
        if ending.lower() not in SUFFIXES:
            why = why_refused(ending.lower())
            raise UserError(
                f"{self._description_file}: file_ending is {ending!r}"
                + (f", which is not read: {why}" if why else f"; expected {SOME_SUFFIXES}")
            )
        return ending

    @property
    def _description_file(self) -> Path:
        return self._folder / "dataset.json"

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        return read_description(self._description_file, _EXPECTED)


def _without_split(pair: Pair) -> Pair:
    return Pair(pair.case_id, pair.images, pair.masks)
