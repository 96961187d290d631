"""JSRT as it is released: headerless 12-bit images, and the SCR masks in their two folds.

An ``.IMG`` file is 2048 x 2048 big-endian 16-bit numbers 0..4095 that rise with optical density:
air is high. It is inverted here so that, as on a light box and in the PNG releases, lungs are
dark; the Case's intensity map (low 4095, high 0) leads back to the file's numbers. SCR's masks are
1024 x 1024 GIFs, one per structure, under ``fold1/masks`` (odd cases) and ``fold2/masks`` (even).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segbench.api import Intensity
from segbench.atomic import read_regular
from segbench.data.faults import BadFileError, Faults
from segbench.data.rasters import inspect_mask, read_mask
from segbench.data.resize import resize_image, resize_labels
from segbench.data.sources import Picture

SIDE = 2048
MASK_SIDE = 1024
WHITE = 4095
DEPTH = 6  # JSRT/SCR/scratch/fold1/masks/left lung and no deeper
FIELD_OF_VIEW_MM = SIDE * 0.175
LEFT_LUNG, RIGHT_LUNG, HEART = 1, 2, 3
STRUCTURES = {
    "lungs": {"left lung": LEFT_LUNG, "right lung": RIGHT_LUNG},
    "lungs-heart": {"left lung": LEFT_LUNG, "right lung": RIGHT_LUNG, "heart": HEART},
}


@dataclass(frozen=True)
class OriginalSource:
    """An ``.IMG`` file and SCR's mask of each structure; ``values`` are painted in order."""

    case_id: str
    group_id: str
    shape: tuple[int, ...]
    image: Path
    masks: tuple[Path, ...]
    values: tuple[int, ...]

    @property
    def pair_id(self) -> str:
        """The case's."""
        return self.case_id

    @property
    def mask(self) -> Path:
        """The first structure's."""
        return self.masks[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return (self.image, *self.masks)

    @property
    def roi(self) -> None:
        """There is none."""

    def valid(self) -> None:
        """Everything counts."""

    def picture(self) -> Picture:
        """The image at ``shape``, lungs dark."""
        raw = np.frombuffer(read_regular(self.image), dtype=">u2")
        if raw.size != SIDE * SIDE:
            raise BadFileError(self.image, f"holds {raw.size} numbers; expected {SIDE} x {SIDE}")
        if raw.max() > WHITE:
            raise BadFileError(self.image, f"holds the value {raw.max()}; expected at most {WHITE}")
        pixels = ((WHITE - raw.astype(np.float32)) / np.float32(WHITE)).reshape(1, SIDE, SIDE)
        millimetres = FIELD_OF_VIEW_MM / self.shape[1]
        return Picture(
            resize_image(pixels, self.shape[1:]),
            (Intensity(float(WHITE), 0.0, 12),),
            spacing=(millimetres, millimetres),
        )

    def raw_mask(self) -> NDArray[np.integer]:
        """The structures' values at ``shape``; where two overlap, the later one."""
        labels = np.zeros(self.shape[1:], dtype=np.uint8)
        for path, value in zip(self.masks, self.values, strict=True):
            labels[resize_labels(read_mask(path), labels.shape) > 0] = value
        return labels


def find_images(root: Path) -> tuple[Path, ...]:
    """The ``.IMG`` files under ``root``, sorted by name."""
    return tuple(sorted(_files(root, "[iI][mM][gG]"), key=lambda path: path.name))


def original_sources(
    root: Path,
    images: Iterable[Path],
    structures: Literal["lungs", "lungs-heart"],
    size: int,
    faults: Faults,
) -> Sequence[OriginalSource]:
    """The cases of the original release; what is wrong is noted in ``faults``."""
    masks = _masks_by_structure(root, STRUCTURES[structures])
    values = tuple(STRUCTURES[structures].values())
    sources = []
    seen: dict[str, Path] = {}
    for image in images:
        if image.stem in seen:
            faults.add(image, f"is there twice, also in {seen[image.stem].parent.name}")
            continue
        seen[image.stem] = image
        if image.stat().st_size != 2 * SIDE * SIDE:
            faults.add(image, f"has {image.stat().st_size} bytes; expected {2 * SIDE * SIDE}")
        missing = [name for name, files in masks.items() if image.stem not in files]
        if missing:
            faults.add(image, f"has no SCR mask of {' and '.join(missing)}")
            continue
        paths = tuple(files[image.stem] for files in masks.values())
        for path in paths:
            _check_mask(path, faults)
        shape = (1, size, size)
        sources.append(OriginalSource(image.stem, image.stem, shape, image, paths, values))
    for stem in sorted(set().union(*masks.values()) - seen.keys()):
        path = next(files[stem] for files in masks.values() if stem in files)
        faults.add(path, "has no .IMG file")
    return sources


def _check_mask(path: Path, faults: Faults) -> None:
    try:
        size = inspect_mask(path)
    except BadFileError as error:
        faults.catch(error)
        return
    if size != (MASK_SIDE, MASK_SIDE):
        faults.add(path, f"is {size[1]} x {size[0]} pixels; expected {MASK_SIDE} x {MASK_SIDE}")


def _masks_by_structure(root: Path, names: Iterable[str]) -> Mapping[str, Mapping[str, Path]]:
    """Structure -> stem -> file, over both folds; folder names may use _ for the space."""
    found: dict[str, dict[str, Path]] = {name: {} for name in names}
    for path in sorted(_files(root, "[gG][iI][fF]")):
        name = path.parent.name.lower().replace("_", " ")
        if name in found:
            found[name][path.stem] = path
    return found


def _files(root: Path, suffix: str) -> list[Path]:
    """Files of a suffix at most DEPTH folders down; unlike rglob it follows linked folders."""
    patterns = ("*/" * depth + f"*.{suffix}" for depth in range(DEPTH + 1))
    found = (path for pattern in patterns for path in root.glob(pattern))
    return [path for path in found if not path.name.startswith(".")]
