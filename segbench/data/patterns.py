"""Pairs by what a user says of their names: patterns, or a table of paths."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from segbench.data.faults import Faults
from segbench.data.pairing import Pair, known_stem, normal, stem_of
from segbench.errors import UserError

_COLUMNS = ("image", "mask", "roi", "patient", "split", "case_id")


def pairs_by_pattern(root: Path, images: str, masks: str, rois: str, faults: Faults) -> list[Pair]:
    """Every file that ``images`` matches, with the masks whose names follow from its own.

    ``images`` has one ``*``; in ``masks`` and ``rois`` stands ``{}`` for what it matched. Several
    masks are separated by ``+``. A pattern without a folder is looked for in ``images/`` and
    ``masks/``. Files that should be there and are not are noted in ``faults``.

    Raises:
        UserError: a pattern is none, or matches no file.
    """
    found = _matched(root, images or "*", faults)
    patterns = masks.split("+")
    for pattern in (*patterns, *([rois] if rois else [])):
        if pattern.count("{}") != 1:
            raise UserError(
                f"{pattern!r} is not a pattern of masks; expected {{}} for what the * of images "
                "matched, such as {}_mask.png"
            )
    pairs = []
    for name, image in found:
        paths = tuple(_place(root, pattern.replace("{}", name), "masks") for pattern in patterns)
        roi = _place(root, rois.replace("{}", name), "rois") if rois else None
        absent = [path for path in (*paths, *([roi] if roi else [])) if not path.exists()]
        for path in absent:
            faults.add(path, f"is not there, and {image.name} needs it")
        if not absent:
            pairs.append(Pair(stem_of(image), (image,), paths, roi))
    _note_unmatched(root, patterns, pairs, faults)
    return pairs


def structure_names(masks: str) -> tuple[str, ...]:
    """What the structures of a mask pattern are called: ``{}_left.png+{}_right.png`` are two."""
    patterns = masks.split("+")
    if len(patterns) == 1:
        return ()
    names = [known_stem(part.replace("{}", "")).strip(" _-.") for part in patterns]
    folders = [Path(part).parent.name for part in patterns]
    distinct = names if len(set(names)) == len(names) and all(names) else folders
    return tuple(distinct)


def pairs_by_table(root: Path, path: Path, faults: Faults) -> list[Pair]:
    """The rows of a CSV file with the columns image and mask, and if known patient, split, roi.

    Paths are relative to ``root``; several images are the channels of one case, several masks its
    structures, with ``;`` between them.

    Raises:
        UserError: no such table, or a case twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the table {path} cannot be read: {error}") from None
    columns = set(rows[0]) if rows else set()
    if not {"image", "mask"} <= columns:
        raise UserError(f"the table {path} needs a header row with image and mask")
    strange = sorted(str(name) for name in columns if name not in _COLUMNS)
    if strange:
        faults.note(f"{path.name}: the columns {', '.join(strange)} are not looked at")
    pairs: dict[str, Pair] = {}
    for number, row in enumerate(rows, start=2):
        pair = _row_pair(root, row, f"line {number} of {path}")
        if pair.case_id in pairs:
            raise UserError(
                f"line {number} of {path} gives the case {pair.case_id!r} a second time"
            )
        pairs[pair.case_id] = pair
        for each in pair.files:
            if not each.exists():
                faults.add(each, f"is named in line {number} of {path.name} and is not there")
    _refuse_half("split", {name: pair.split for name, pair in pairs.items()}, path)
    _refuse_half("roi", {name: pair.roi for name, pair in pairs.items()}, path)
    return [pairs[name] for name in sorted(pairs)]


def _row_pair(root: Path, row: Mapping[str, str | None], where: str) -> Pair:
    said = {key: (value or "").strip() for key, value in row.items() if key in _COLUMNS}
    images, masks = (_paths(root, said[name]) for name in ("image", "mask"))
    if not images or not masks:
        raise UserError(f"{where} has no {'mask' if images else 'image'}")
    rois = _paths(root, said.get("roi", ""))
    if len(rois) > 1:
        raise UserError(f"{where} gives {len(rois)} files as roi; expected one mask of what counts")
    name = said.get("case_id") or stem_of(images[0])
    group, split = said.get("patient") or None, said.get("split") or None
    return Pair(normal(name), images, masks, rois[0] if rois else None, group, split)


def _refuse_half(column: str, said: Mapping[str, object], path: Path) -> None:
    """Refuse a column that is filled for some cases alone."""
    without = [name for name, value in said.items() if value is None]
    if without and len(without) < len(said):
        more = f" and {len(without) - 8} more" if len(without) > 8 else ""
        raise UserError(f"the table {path} gives no {column} to {', '.join(without[:8])}{more}")


def _paths(root: Path, text: str) -> tuple[Path, ...]:
    return tuple(root / part.strip() for part in text.split(";") if part.strip())


def _matched(root: Path, pattern: str, faults: Faults) -> Sequence[tuple[str, Path]]:
    """(what the star matched, file) of every file of that name, sorted."""
    if pattern.count("*") != 1 or "*" in pattern.rpartition("/")[0]:
        raise UserError(
            f"images={pattern!r} is not a pattern; expected one * in the file's name, such as "
            "*_training.tif"
        )
    whole = _place(root, pattern, "images")
    before, _, after = normal(whole.name).partition("*")
    expression = re.compile(re.escape(before) + r"(.+)" + re.escape(after))
    if not whole.parent.is_dir():
        raise UserError(f"images={pattern!r}: there is no folder {whole.parent}")
    found, others = [], 0
    for path in sorted(whole.parent.iterdir()):
        match = expression.fullmatch(normal(path.name))
        if match and path.is_file():
            found.append((match[1], path))
        else:
            others += not path.name.startswith(".")
    if not found:
        raise UserError(f"images={pattern!r} matches no file in {whole.parent}")
    if others:
        faults.note(
            f"{others} files or folders in {whole.parent.name}/ do not match images={pattern}"
        )
    return found


def _note_unmatched(
    root: Path, patterns: Sequence[str], pairs: Sequence[Pair], faults: Faults
) -> None:
    used = {file for pair in pairs for file in pair.files}
    for folder in sorted({_place(root, pattern, "masks").parent for pattern in patterns}):
        if folder.is_dir():
            rest = [p for p in folder.iterdir() if p.is_file() and p not in used]
            rest = [p for p in rest if not p.name.startswith(".")]
            if rest:
                faults.note(f"{len(rest)} files in {folder.name}/ belong to no image")


def _place(root: Path, pattern: str, folder: str) -> Path:
    """Where a pattern points to: with a folder of its own, or in the usual one."""
    return root / pattern if "/" in pattern else root / folder / pattern
