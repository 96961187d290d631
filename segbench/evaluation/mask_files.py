"""Masks that a user drew for an attack, one per case: a target, or where it may perturb.

``target=file:FOLDER`` and ``where=mask:FOLDER``: the folder holds a file of each case's name (PNG,
TIFF, BMP, GIF, or NIfTI) at the size the case is attacked at, with the classes 0..K-1 as its
values; of two classes the second may be 255.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.api import Case, Entry
from segbench.atomic import read_regular
from segbench.data.coding import count_values
from segbench.data.endings import SUFFIXES, TIFF_SUFFIXES, is_volume, suffix_of
from segbench.data.faults import BadFileError, Faults
from segbench.data.pairing import stem_of
from segbench.data.rasters import read_mask
from segbench.data.tiff_stacks import is_stack
from segbench.data.volumes import read_label_volume
from segbench.errors import UserError


def masks_digest(folder: Path) -> str:
    """SHA-256 (hex) of all masks of a folder, whichever of them are used.

    Raises:
        BadFileError: one cannot be read.
        UserError: there is no such folder.
    """
    digest = hashlib.sha256()
    for stem, paths in _files(folder).items():
        for path in paths:
            try:
                content = read_regular(path)
            except OSError as error:
                raise BadFileError(path, f"cannot be read ({error})") from None
            digest.update(stem.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def check_masks(folder: Path, entries: Sequence[Entry], classes: int, what: str) -> None:
    """Read the masks of those cases; ``what`` they are: targets, or regions.

    Raises:
        UserError: every mask that is missing, unreadable, of another size or of other values.
    """
    files = _files(folder)
    faults, found = Faults(folder), []
    for entry in entries:
        paths = files.get(entry.case_id, [])
        if len(paths) == 1:
            status = paths[0].stat()
            found.append((paths[0], entry.shape[1:], status.st_mtime_ns, status.st_size))
        elif paths:
            faults.add(paths[1], f"has the same name as {paths[0].name}")
        else:
            faults.add(folder / entry.case_id, "is missing; expected a mask of that name")
    faults.found.extend(_complaints(tuple(found), classes))
    faults.raise_any(f"these {what}")


def check_twins(folder: Path, contents: Mapping[str, str]) -> None:
    """Refuse two masks for one content: rows know a case by that, so one would pass for both.

    Args:
        contents: case id -> ``Case.sha256``.

    Raises:
        UserError: two cases are the same, and their masks are not.
    """
    files, first = _files(folder), dict[str, str]()
    for case_id, content in contents.items():
        twin = first.setdefault(content, case_id)
        if twin != case_id and files[twin][0].read_bytes() != files[case_id][0].read_bytes():
            raise UserError(
                f"cases {twin} and {case_id} are one image with one truth, but {folder} has two "
                "different masks of them; leave one of them out"
            )


def case_mask(folder: Path, case: Case, classes: int) -> NDArray[np.int64]:
    """The mask (*spatial) of a case, 0..classes-1.

    Raises:
        BadFileError: it does not fit the case, see ``check_masks``.
        UserError: there is none.
    """
    paths = _files(folder).get(case.case_id)
    if not paths:
        raise UserError(f"{folder} holds no mask of case {case.case_id}")
    return _read(paths[0], case.labels.shape, classes)


def _files(folder: Path) -> dict[str, list[Path]]:
    """The masks of a folder by their stems."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; it is to hold a mask of each case")
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if suffix_of(path) in SUFFIXES:
            files.setdefault(stem_of(path), []).append(path)
    return files


@lru_cache(maxsize=16)
def _complaints(
    files: tuple[tuple[Path, tuple[int, ...], int, int], ...], classes: int
) -> tuple[str, ...]:
    """What is wrong with the masks; times and sizes tell them apart."""
    complaints = []
    for path, shape, _, _ in files:
        try:
            _read(path, shape, classes)
        except BadFileError as error:
            complaints.append(str(error))
    return tuple(complaints)


def _read(path: Path, shape: tuple[int, ...], classes: int) -> NDArray[np.int64]:
    stacked = suffix_of(path) in TIFF_SUFFIXES and is_stack(path)
    raw = read_label_volume(path) if stacked or is_volume(path) else read_mask(path)
    if raw.ndim == len(shape) + 1 and raw.shape[-1] == 1:
        raw = raw[..., 0]  # a slice, as a volume of one
    if raw.shape != shape:
        own, wanted = (" x ".join(map(str, sides)) for sides in (raw.shape, shape))
        raise BadFileError(path, f"is {own}; its case is attacked at {wanted}")
    values = set(count_values(raw))
    if classes == 2 and values <= {0, 255}:
        raw = raw // 255
    elif not values <= set(range(classes)):
        strange = ", ".join(map(str, sorted(values - set(range(classes)))[:3]))
        raise BadFileError(path, f"holds the value {strange}; expected classes 0 to {classes - 1}")
    return raw.astype(np.int64)
