"""JSRT: 247 chest radiographs, with the SCR outlines of lungs and heart.

Shiraishi et al., AJR 174:71-74, 2000 (images); van Ginneken et al., Medical Image Analysis
10(1):19-40, 2006 (outlines). Left and right are the patient's, as in SCR: the left lung is on the
right of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from segbench.data.coding import Coding
from segbench.data.faults import Faults
from segbench.data.file_dataset import FileDataset
from segbench.data.layouts.jsrt_original import (
    FIELD_OF_VIEW_MM,
    HEART,
    LEFT_LUNG,
    RIGHT_LUNG,
    find_images,
    original_sources,
)
from segbench.data.pairing import find_pairs
from segbench.data.raster_source import raster_sources
from segbench.data.resize import check_size
from segbench.data.roots import require_root
from segbench.data.sources import Source
from segbench.data.splits import alternating_splits
from segbench.errors import UserError

ORIGINAL_SIZE = 256
LUNGS = ("background", "lung")
LUNGS_HEART = ("background", "left lung", "right lung", "heart")


@dataclass(frozen=True)
class JSRT(FileDataset):
    """The original release (``.IMG`` and SCR's ``fold1``, ``fold2``), or a folder of PNGs.

    A folder of PNGs holds ``images/`` with ``masks/`` (0, 255) or ``masks_multiclass/``
    (1 right lung, 2 left lung, 3 heart). Of the sorted names every second, from the first, is
    train: 124, and 123 for test.

    Attributes:
        root: the folder that holds either, the original at any depth.
        structures: both lungs as one class, or left lung, right lung and heart apart.
        size: side to resize to; 0 is 256 for the original and the files' own for PNGs.
        nsd_tolerance: that of the surface Dice, in mm, or pixels where the spacing is unknown;
            none is the larger of 1 mm and one pixel.
    """

    structures: Literal["lungs", "lungs-heart"] = "lungs"
    size: int = 0
    nsd_tolerance: float | None = None
    root: Path | None = None

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        if self._originals:
            side = self.size or ORIGINAL_SIZE
            return (
                f"images of 2048 x 2048 are resized to {side} x {side} linearly with "
                "anti-aliasing, masks of 1024 x 1024 to the nearest pixel, and scored there"
            )
        if not self.size:
            return "every image is kept, and scored, at the size of its file"
        return (
            f"every image is resized to {self.size} x {self.size} linearly with anti-aliasing, "
            "its mask to the nearest pixel, and scored there"
        )

    def find(self) -> Mapping[str, Sequence[Source]]:
        """The cases, split by the parity of their sorted names."""
        check_size(self.size)
        faults = Faults(self._folder)
        sources: Sequence[Source]
        if self._originals:
            side = self.size or ORIGINAL_SIZE
            sources = original_sources(self._folder, self._originals, self.structures, side, faults)
        else:
            masks = "masks" if self.structures == "lungs" else "masks_multiclass"
            pairs = find_pairs(self._folder / "images", self._folder / masks, faults)
            sources = raster_sources(
                pairs, faults, size=self.size, channels=1, field_of_view_mm=FIELD_OF_VIEW_MM
            )
        faults.raise_any()
        if len(sources) < 2:
            raise UserError(f"{self._folder} holds {len(sources)} case; a split needs two")
        by_id = {source.case_id: source for source in sources}
        splits = alternating_splits(by_id)
        return {name: [by_id[case] for case in cases] for name, cases in splits.items()}

    def read_coding(self) -> Coding:
        """The release's own."""
        if self._originals:
            if self.structures == "lungs":
                return Coding(LUNGS, ((0, 0), (LEFT_LUNG, 1), (RIGHT_LUNG, 1)))
            return Coding(LUNGS_HEART, ((0, 0), (LEFT_LUNG, 1), (RIGHT_LUNG, 2), (HEART, 3)))
        if self.structures == "lungs":
            return Coding(LUNGS, ((0, 0), (255, 1)))
        return Coding(LUNGS_HEART, ((0, 0), (1, 2), (2, 1), (3, 3)))

    @cached_property
    def _folder(self) -> Path:
        return require_root("jsrt", self.root)

    @cached_property
    def _originals(self) -> tuple[Path, ...]:
        """The original release's images; none where there is a folder of PNGs."""
        images = self._folder / "images"
        if images.is_dir() and not any(path.suffix.lower() == ".img" for path in images.iterdir()):
            return ()
        found = find_images(self._folder)
        if not found:
            raise UserError(
                f"{self._folder} holds no JSRT; expected .IMG files with SCR's fold1 and fold2, "
                "or the folders images and masks of PNGs"
            )
        return found
