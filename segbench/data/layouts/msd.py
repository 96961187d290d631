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
from segbench.data.faults import Faults
from segbench.data.file_dataset import FileDataset
from segbench.data.layouts.described import described_coding, read_description
from segbench.data.pairing import Pair, find_pairs, is_volume, stem_of
from segbench.data.regrid import Regrid, ScoreOn, parse_spacing
from segbench.data.resize import check_size
from segbench.data.roots import require_root
from segbench.data.scale import parse_range
from segbench.data.sources import Source
from segbench.data.splits import group_rule, read_split_table, split_pairs
from segbench.data.volume_source import Mode, volume_sources
from segbench.data.window import Window
from segbench.errors import UserError


@dataclass(frozen=True)
class MSD(FileDataset):
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
        faults = Faults(self._folder)
        table = read_split_table(self._folder / self.split) if self.split else None
        pairs, group_of = self._pairs(faults), group_rule("", table)
        sources = volume_sources(
            pairs,
            faults,
            mode=self.mode,
            window=self._window,
            group_of=group_of,
            regrid=self.regrid,
        )
        self._check_modalities(sources, faults)
        faults.raise_any()
        splits = split_pairs(
            pairs, group_of, self._folder, table, self.test_fraction, self.split_seed
        )
        split_of = {case: name for name, cases in splits.items() for case in cases}
        found: dict[str, list[Source]] = {name: [] for name in splits}
        for source in sources:
            found[split_of[source.pair_id]].append(source)
        return found

    def read_coding(self) -> Coding:
        """``labels`` of dataset.json: number to name, or name to number or numbers."""
        return described_coding(self._description.get("labels"), self._description_file)

    @property
    def left_out(self) -> Sequence[str]:
        """The images without labels."""
        folder = self._folder / "imagesTs"
        count = sum(map(is_volume, folder.iterdir())) if folder.is_dir() else 0
        return (f"{count} volumes of imagesTs/ have no labels and are left out",) if count else ()

    def _pairs(self, faults: Faults) -> list[Pair]:
        """As dataset.json lists them, else as the two folders hold them."""
        listed = self._description.get("training")
        if not listed:
            return find_pairs(self._folder / "imagesTr", self._folder / "labelsTr", faults)
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
                faults.add(path, "is listed in dataset.json but is not there")
            if not absent:
                pairs.append(Pair(stem_of(image), (image,), (mask,)))
        return sorted(pairs, key=lambda pair: pair.case_id)

    def _check_modalities(self, sources: Sequence[Source], faults: Faults) -> None:
        named = self._description.get("modality", self._description.get("channel_names"))
        if sources and isinstance(named, dict) and len(named) != sources[0].shape[0]:
            faults.add(
                sources[0].image,
                f"has {sources[0].shape[0]} channels, dataset.json names {len(named)}",
            )

    @property
    def regrid(self) -> Regrid:
        """``size``, or ``spacing``."""
        return Regrid(self.size, parse_spacing(self.spacing), self.score_on)

    @property
    def _window(self) -> Window:
        return Window(self.lower, self.upper, parse_range(self.window, "window"))

    @cached_property
    def _folder(self) -> Path:
        return require_root("msd", self.root)

    @property
    def _description_file(self) -> Path:
        return self._folder / "dataset.json"

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        return read_description(
            self._description_file,
            "a Decathlon task's folder with dataset.json, imagesTr and labelsTr",
        )
