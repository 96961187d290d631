"""ISBI/ISIC 2016, part 1: skin lesions in dermoscopy images, with the official split.

Gutman, Codella, Celebi, et al., "Skin Lesion Analysis toward Melanoma Detection: A Challenge at
ISBI 2016", arXiv 1605.01397. 900 training and 379 test images in the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.data.coding import Coding
from segbench.data.faults import Faults
from segbench.data.file_dataset import FileDataset
from segbench.data.pairing import find_pairs
from segbench.data.raster_source import raster_sources
from segbench.data.resize import check_size
from segbench.data.roots import require_root
from segbench.data.sources import Source
from segbench.errors import UserError

ORIGINAL = {
    "train": ("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth"),
    "test": ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
}
PLAIN = {
    "train": ("isic2016_train/images", "isic2016_train/masks"),
    "test": ("isic2016_test/images", "isic2016_test/masks"),
}


@dataclass(frozen=True)
class ISIC2016(FileDataset):
    """Original folder names, or ``isic2016_train`` and ``isic2016_test``; one half is enough.

    Attributes:
        root: the folder that holds the four folders.
        size: side of the square that every image is resized to; 0 keeps the files' own sizes.
        nsd_tolerance: that of the surface Dice, in mm, or pixels where the spacing is unknown;
            none is the larger of 1 mm and one pixel.
    """

    size: int = 256
    nsd_tolerance: float | None = None
    root: Path | None = None

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        if not self.size:
            return "every image is kept, and scored, at the size of its file"
        return (
            f"every image is resized to {self.size} x {self.size} whatever its proportions, "
            "linearly with anti-aliasing, its mask to the nearest pixel, and scored there"
        )

    def find(self) -> Mapping[str, Sequence[Source]]:
        """The cases of the official split."""
        check_size(self.size)
        root = require_root("isic2016", self.root)
        layout = next((names for names in (ORIGINAL, PLAIN) if _present(root, names)), None)
        if layout is None:
            raise UserError(
                f"{root} holds no ISIC 2016; expected in it the folders "
                f"{', '.join(name for pair in ORIGINAL.values() for name in pair)}, "
                f"or {', '.join(name for pair in PLAIN.values() for name in pair)}"
            )
        faults = Faults(root)
        splits: dict[str, Sequence[Source]] = {}
        for split, (images, masks) in layout.items():
            if not (root / images).is_dir() and not (root / masks).is_dir():
                splits[split] = []  # one half is a data set too
                continue
            pairs = find_pairs(root / images, root / masks, faults)
            splits[split] = raster_sources(pairs, faults, size=self.size, channels=3)
        faults.raise_any()
        return splits

    def read_coding(self) -> Coding:
        """0 and 255, by the challenge's rules."""
        return Coding(("background", "lesion"), ((0, 0), (255, 1)))


def _present(root: Path, layout: Mapping[str, tuple[str, str]]) -> bool:
    return any((root / name).is_dir() for pair in layout.values() for name in pair)
