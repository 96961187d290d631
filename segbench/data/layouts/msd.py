"""A task of the Medical Segmentation Decathlon in its own layout: MRI and CT volumes.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13:4128, 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segbench.data.coding import Coding
from segbench.data.endings import is_volume
from segbench.data.layouts.described import check_channels, described_coding, read_description
from segbench.data.layouts.volumes import VolumeLayout
from segbench.data.pairing import Pair, find_pairs, stem_of
from segbench.data.regrid import ScoreOn
from segbench.data.resize import check_size
from segbench.data.sources import Source
from segbench.data.splits import group_rule
from segbench.data.volume_source import Mode, volume_sources
from segbench.errors import UserError


@dataclass(frozen=True)
class MSD(VolumeLayout):
    """``dataset.json``, ``imagesTr`` and ``labelsTr``; the unlabelled ``imagesTs`` is left alone.

    Attributes:
        root: the task's folder, such as Task04_Hippocampus.
        mode: axial slices (cases of one group, the volume), or whole volumes.
        size: side of the square or cube that every case is resized to; 0 keeps its own grid.
        lower: percentile of a volume's voxels, per channel, that becomes 0.
        upper: percentile that becomes 1.
        split: a CSV file in the folder (case_id, split, optionally group); "" for a seeded rule.
        test_fraction: share of cases that the seeded rule puts in test.
        split_seed: another seed, another split.
        nsd_tolerance: that of the surface Dice, in mm, or pixels where the spacing is unknown;
            none is the larger of 1 mm and one pixel.
        window: values that become 0 and 1, ``-1000..400``; "" for the percentiles.
        spacing: millimetres that volumes are resampled to, ``1x1x1``; "" for their own.
        score_on: resampled, or original, where networks alone are shown the resampled image.
    """

    name = "msd"

    mode: Mode = "slices"
    size: int = 0
    lower: float = 0.5
    upper: float = 99.5
    split: str = ""
    test_fraction: float = 0.3
    split_seed: int = 0
    nsd_tolerance: float | None = None
    window: str = ""
    spacing: str = ""
    score_on: ScoreOn = "resampled"
    root: Path | None = None

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        return (
            f"{self.mode} in canonical axes, {self._window.rule}; every case is {self.regrid.rule} "
            "and scored there"
        )

    def find(self) -> Mapping[str, Sequence[Source]]:
        """The labelled volumes."""
        check_size(self.size)
        pairs, group_of = self._pairs(), group_rule("", self._split_table)
        sources = volume_sources(
            pairs,
            self._faults,
            mode=self.mode,
            window=self._window,
            group_of=group_of,
            regrid=self.regrid,
        )
        check_channels(sources, self._description, self._faults)
        self._faults.raise_any()
        return self._divided(sources, pairs, group_of)

    def read_coding(self) -> Coding:
        """``labels`` of dataset.json: number to name, or name to number or numbers."""
        return described_coding(self._description.get("labels"), self._description_file)

    @property
    def left_out(self) -> Sequence[str]:
        """The images without labels."""
        folder = self._folder / "imagesTs"
        count = sum(map(is_volume, folder.iterdir())) if folder.is_dir() else 0
        return (f"{count} volumes of imagesTs/ have no labels and are left out",) if count else ()

    def _pairs(self) -> list[Pair]:
        """As dataset.json lists them, else as the two folders hold them."""
        listed = self._description.get("training")
        if not listed:
            return find_pairs(self._folder / "imagesTr", self._folder / "labelsTr", self._faults)
        pairs = []
        for item in listed:
            try:
                image, mask = self._folder / item["image"], self._folder / item["label"]
            except (KeyError, TypeError):
                raise UserError(
                    f"{self._description_file}: {item!r} in training; expected image and label"
                ) from None
            absent = [path for path in (image, mask) if not path.is_file()]
            for path in absent:
                self._faults.add(path, "is listed in dataset.json but is not there")
            if not absent:
                pairs.append(Pair(stem_of(image), (image,), (mask,)))
        return sorted(pairs, key=lambda pair: pair.case_id)

    @property
    def _description_file(self) -> Path:
        return self._folder / "dataset.json"

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        return read_description(
            self._description_file,
            "a Decathlon task's folder with dataset.json, imagesTr and labelsTr",
        )
