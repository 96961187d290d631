"""Image files and their masks, matched by name."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.data.endings import SOME_SUFFIXES, SUFFIXES, suffix_of, why_refused
from segbench.data.faults import Faults

NOTES = (
    *("", ".txt", ".md", ".csv", ".json", ".toml", ".ini", ".db"),
    *(".hdr", ".hdr.gz", ".raw", ".zraw", ".raw.gz", ".sdt"),
)
"""What may lie beside them."""

_CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net's: case_0000, case_0001
_IMAGE_ENDING = re.compile(r"[ _-](image|img|training|test)$")
_MASK_ENDING = re.compile(
    r"[ _-](masks?|segmentation|seg|labels?|annotation|gt|groundtruth|manual\d?|lesion)$"
)
_MASK_BEGINNING = re.compile(r"^(masks?|segmentation|seg|labels?|annotation|gt)[ _-]")
_IMAGE_BEGINNING = re.compile(r"^(image)[ _-]")
_SIDE = re.compile(r"[ _-](left|right|l|r)([ _-](lung|lungs|mask))?$")


@dataclass(frozen=True)
class Pair:
    """The files of one case, which is named after its image.

    Attributes:
        images: one file, or one for each channel.
        masks: one file, or several, each with a structure of its own.
        roi: a mask of the pixels that count, where there is one.
        group: the patient, where a table says; likewise ``split``.
    """

    case_id: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    roi: Path | None = None
    group: str | None = None
    split: str | None = None

    @property
    def image(self) -> Path:
        """The first image file."""
        return self.images[0]

    @property
    def mask(self) -> Path:
        """The first mask file."""
        return self.masks[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.images, *self.masks, *((self.roi,) if self.roi else ()))


def find_pairs(images: Path, masks: Path, faults: Faults, rois: Path | None = None) -> list[Pair]:
    """The images of one folder and the masks of another, matched by name, sorted by it.

    Names are compared in Unicode's normal form, as they stand first, and where that fails without
    what people put around them: ``_0000`` of the only channel, ``_mask``, ``mask_``, ``_manual1``,
    ``_training`` and the like, upper and lower case, ``_left`` and ``_right``. What does not match,
    or in two ways, is noted in ``faults``.
    """
    missing = [folder for folder in (images, masks, rois) if folder and not folder.is_dir()]
    for folder in missing:
        faults.add(folder, "is missing; expected a folder of files")
    if missing:
        return []
    mask_files = list_files(masks, faults)
    cases = _channels_of(list_files(images, faults), {stem_of(path) for path in mask_files})
    masks_of = _owners(mask_files, cases, faults)
    rois_of = _owners(list_files(rois, faults), cases, faults) if rois else {}
    pairs = []
    for stem, files in sorted(cases.items()):
        found = masks_of.get(stem, [])
        if not found:
            faults.add(files[0], f"has no mask in {masks.name}/")
        elif len(found) > 1 and not _are_sides(found):
            faults.add(files[0], f"has two masks, {found[0].name} and {found[1].name}")
        elif rois and len(rois_of.get(stem, [])) != 1:
            faults.add(files[0], f"has {len(rois_of.get(stem, []))} masks in {rois.name}/")
        else:
            roi = rois_of[stem][0] if rois else None
            pairs.append(Pair(stem, tuple(files), tuple(found), roi))
    return pairs


def list_files(folder: Path, faults: Faults) -> list[Path]:
    """The files of a folder that can be read, sorted; others are noted in ``faults``."""
    found: list[Path] = []
    inside = 0
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            inside += sum(suffix_of(file) in SUFFIXES for file in path.rglob("*"))
        elif (suffix := suffix_of(path)) in SUFFIXES:
            found.append(path)
        elif why := why_refused(suffix):
            faults.add(path, f"is not read: {why}")
        elif suffix not in NOTES or (suffix == ".hdr" and not path.with_suffix(".img").exists()):
            faults.add(path, f"is not of a kind that is read: {SOME_SUFFIXES}")
    if inside:
        faults.note(f"{inside} files in folders within {folder.name}/ are left out")
    if not found:
        faults.add(folder, f"holds no image files: {SOME_SUFFIXES}")
    _refuse_same_names(found, faults)
    return found


def stem_of(path: Path) -> str:
    """A file's name without its suffix, where ``.nii.gz`` is one, in Unicode's normal form."""
    return normal(path.name[: len(path.name) - len(suffix_of(path))])


def known_stem(name: str) -> str:
    """A case's name as somebody wrote it, without a suffix only if it is one that is read."""
    path = Path(name)
    return stem_of(path) if suffix_of(path) in SUFFIXES else normal(path.name)


def normal(name: str) -> str:
    """A name in Unicode's normal form, so that one name is one whoever wrote it."""
    return unicodedata.normalize("NFC", name)


def _refuse_same_names(files: Sequence[Path], faults: Faults) -> None:
    seen: dict[str, Path] = {}
    for path in files:
        stem = stem_of(path)
        if stem in seen:
            faults.add(path, f"has the same name as {seen[stem].name}")
        seen[stem] = path


def _channels_of(files: Sequence[Path], masks: set[str]) -> dict[str, list[Path]]:
    """Case -> its files: one, or where all names end so, the channels _0000, _0001, ... of each.

    Not where masks are called as the files are: cameras count IMG_0000, IMG_0001, ... too.
    """
    stems = {stem_of(path): path for path in files}
    matches = [_CHANNEL.fullmatch(stem) for stem in stems]
    counted = any(match and match[2] == "0000" for match in matches)
    own = {mask.casefold() for mask in masks} | {_bare_mask(mask) for mask in masks}
    if not all(matches) or not counted or own & {stem.casefold() for stem in stems}:
        return {stem: [path] for stem, path in stems.items()}
    cases: dict[str, list[Path]] = defaultdict(list)
    for stem, match in zip(stems, matches, strict=True):
        assert match
        cases[match[1]].append(stems[stem])
    return {stem: sorted(found) for stem, found in cases.items()}


def _owners(masks: Sequence[Path], cases: Iterable[str], faults: Faults) -> dict[str, list[Path]]:
    """Case -> its masks: by the names as they stand, else by what is left of them."""
    names = set(cases)
    by_key: dict[str, list[str]] = defaultdict(list)
    for case in names:
        for key in {case.casefold(), _bare_image(case)}:
            by_key[key].append(case)
    found: dict[str, list[Path]] = defaultdict(list)
    for path in masks:
        stem = stem_of(path)
        owners = [stem] if stem in names else _by_keys(stem, by_key)
        if len(owners) == 1:
            found[owners[0]].append(path)
        elif owners:
            faults.add(path, f"may belong to {' or to '.join(sorted(owners)[:2])}")
        else:
            faults.add(path, "has no image")
    return found


def _by_keys(stem: str, cases: dict[str, list[str]]) -> list[str]:
    """The cases whose bare name is that of a mask; the less is taken away the better."""
    bare = _MASK_BEGINNING.sub("", stem.casefold())
    whole = (stem.casefold(), bare, _MASK_ENDING.sub("", stem.casefold()), _bare_mask(stem))
    sides = tuple(_SIDE.sub("", key) for key in (*whole, _MASK_ENDING.sub("", bare)))
    return next((cases[key] for key in (*whole, *sides) if key in cases), [])


def _bare_image(stem: str) -> str:
    return _IMAGE_ENDING.sub("", _IMAGE_BEGINNING.sub("", stem.casefold()))


def _bare_mask(stem: str) -> str:
    return _MASK_ENDING.sub("", _MASK_BEGINNING.sub("", stem.casefold()))


def _are_sides(masks: Sequence[Path]) -> bool:
    """Whether the masks of one image are its left and its right, and nothing else."""
    found = [_SIDE.search(_MASK_ENDING.sub("", stem_of(path).casefold())) for path in masks]
    return len(masks) == 2 and {m[1][0] for m in found if m} == {"l", "r"}
