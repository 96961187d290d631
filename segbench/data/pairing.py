"""Image files and their masks, matched by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.data.faults import Faults

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
VOLUME_SUFFIXES = (".nii", ".nii.gz")
MASK_ENDINGS = ("_mask", "_segmentation", "_seg", "_label")
NOTES = ("", ".txt", ".md", ".csv", ".json", ".ini", ".db")  # beside the images, not among them


@dataclass(frozen=True)
class Pair:
    """An image file and its mask; the case is named after the image."""

    case_id: str
    image: Path
    mask: Path


def find_pairs(images: Path, masks: Path, faults: Faults) -> list[Pair]:
    """The images of one folder and the masks of another, matched by stem, sorted by it.

    A mask may be called as its image or end in one of MASK_ENDINGS, in any case. What does not
    match is noted in ``faults``.
    """
    missing = [folder for folder in (images, masks) if not folder.is_dir()]
    for folder in missing:
        faults.add(folder, "is missing; expected a folder of files")
    if missing:
        return []
    by_stem = _by_stem(images, faults)
    masks_of = _masks_by_image(_by_stem(masks, faults), set(by_stem), faults)
    pairs = []
    for stem, files in sorted(by_stem.items()):
        if len(files) > 1:
            faults.add(files[1], f"has the same name as {files[0].name}")
        candidates = masks_of.get(stem, [])
        if not candidates:
            faults.add(files[0], f"has no mask in {masks.name}/")
        elif len(candidates) > 1:
            faults.add(files[0], f"has two masks, {candidates[0].name} and {candidates[1].name}")
        else:
            pairs.append(Pair(stem, files[0], candidates[0]))
    return pairs


def stem_of(path: Path) -> str:
    """A file's name without its suffix, where ``.nii.gz`` is one suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def suffix_of(path: Path) -> str:
    """A file's suffix in lower case, where ``.nii.gz`` is one suffix."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def is_volume(path: Path) -> bool:
    """Whether a file is named as NIfTI."""
    return suffix_of(path) in VOLUME_SUFFIXES


def _by_stem(folder: Path, faults: Faults) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        suffix = suffix_of(path)
        if path.name.startswith(".") or path.is_dir() or suffix in NOTES:
            continue
        if suffix in (*RASTER_SUFFIXES, *VOLUME_SUFFIXES):
            found[stem_of(path)].append(path)
        else:
            faults.add(path, f"is not of a kind that is read ({_kinds()})")
    if not found:
        faults.add(folder, f"holds no image files ({_kinds()})")
    return found


def _masks_by_image(
    masks: dict[str, list[Path]], stems: set[str], faults: Faults
) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for stem, files in masks.items():
        owner = stem if stem in stems else _without_ending(stem)
        if owner in stems:
            found[owner].extend(files)
        else:
            faults.add(files[0], "has no image")
    return found


def _without_ending(stem: str) -> str:
    for ending in MASK_ENDINGS:
        if stem.lower().endswith(ending):
            return stem[: -len(ending)]
    return stem


def _kinds() -> str:
    kinds: Sequence[str] = (*RASTER_SUFFIXES, *VOLUME_SUFFIXES)
    return " ".join(kinds)
