"""What mask values mean, as a user says it: ``values=0+500+205``, ``regions=...``, or a file.

A file says the same and more: which values are one class, are dropped or ignored, and all names.

    # values.toml                          # or values.csv
    ignore = [7]                           value,class
    drop = [9]                             0,background
    [classes]                              255,lung
    background = 0                         254,lung
    lung = [255, 254]                      7,ignore
    heart = "#ff0000"                      9,drop
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.atomic import read_regular
from segbench.data.coding import COLOUR, name_value
from segbench.errors import UserError

_VALUE = re.compile(r"[+-]?\d{1,9}|#[0-9a-fA-F]{6}")
_REGION = re.compile(r"\s*([\w][\w .+-]*?)\s*=\s*\{([^{}]*)\}\s*")
_IGNORE, _DROP = "ignore", "drop"


@dataclass(frozen=True)
class ValueMap:
    """Numbers in the files to labels; see ``Coding``."""

    names: tuple[str, ...]
    labels: tuple[tuple[int, int], ...]
    ignore: tuple[int, ...] = ()
    regions: tuple[tuple[int, ...], ...] = ()


def read_values(
    values: str, regions: str, names: Sequence[str], ignored: tuple[int, ...], folder: Path
) -> ValueMap | None:
    """The map that the options give; None where they give none.

    ``values`` is a list (``+`` between classes, ``&`` within one) or a file in ``folder``, which
    may ignore values beside ``ignored``.

    Raises:
        UserError: it is neither, a value is given twice, or names do not fit.
    """
    said: Mapping[str, Any] = {}
    if values.lower().endswith((".toml", ".csv")):
        said = _read_file(folder / values)
    elif values:
        said = {"classes": _listed_classes(values, names)}
    if regions:
        if said.get("regions"):
            raise UserError("regions= and the regions of the values file say two things")
        said = {**said, "regions": _parse_regions(regions)}
    if not said:
        return None
    ignored = (*_values(said.get("ignore", []), "ignore"), *ignored)
    dropped = _values(said.get("drop", []), "drop")
    classes = {
        str(name): _values(given, str(name)) for name, given in (said.get("classes") or {}).items()
    }
    areas = {
        str(name): _values(given, str(name)) for name, given in (said.get("regions") or {}).items()
    }
    if areas:
        return _region_map(areas, classes, dropped, ignored)
    return _class_map(classes, dropped, ignored)


def region_map(areas: Mapping[str, tuple[int, ...]]) -> ValueMap:
    """Overlapping structures, each of the values that it is made of; 0 is none of them."""
    return _region_map(areas, {}, (), ())


def _class_map(
    classes: Mapping[str, tuple[int, ...]], dropped: tuple[int, ...], ignored: tuple[int, ...]
) -> ValueMap:
    if len(classes) < 2:
        raise UserError(
            f"values= gives {len(classes)} classes; expected two or more, background first"
        )
    labels = [(value, label) for label, of in enumerate(classes.values()) for value in of]
    labels += [(value, 0) for value in dropped]
    _refuse_twice([value for value, _ in labels] + list(ignored))
    return ValueMap(tuple(classes), tuple(labels), ignored)


def _region_map(
    areas: Mapping[str, tuple[int, ...]],
    classes: Mapping[str, tuple[int, ...]],
    dropped: tuple[int, ...],
    ignored: tuple[int, ...],
) -> ValueMap:
    inside = sorted({value for of in areas.values() for value in of})
    outside = {0, *dropped, *(v for of in classes.values() for v in of)} - set(inside)
    if 0 in inside:
        raise UserError("regions= holds the value 0, which is the background")
    _refuse_twice([*inside, *outside, *ignored])
    labels = [(value, 0) for value in sorted(outside)]
    names = ("background", *areas)
    if len(areas) == 1:
        return ValueMap(names, (*labels, *((value, 1) for value in inside)), ignored)
    label_of = {value: label for label, value in enumerate(inside, start=1)}
    regions = tuple(tuple(sorted(label_of[value] for value in of)) for of in areas.values())
    return ValueMap(names, (*labels, *label_of.items()), ignored, regions)


def _refuse_twice(values: Sequence[int]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise UserError(f"values= gives {name_value(twice[0])} two meanings")


def _listed_classes(text: str, names: Sequence[str]) -> dict[str, list[str]]:
    parts = [part.split("&") for part in text.split("+")]
    if names and len(names) != len(parts):
        raise UserError(
            f"classes={'+'.join(names)} names {len(names)} classes, values={text} has {len(parts)}"
        )
    if not names:
        two = ("background", "foreground")
        names = two if len(parts) == 2 else ("background", *(f"value {p[0]}" for p in parts[1:]))
    _refuse_twice([value for part in parts for value in _values(part, f"values={text}")])
    if len(set(names)) < len(names):
        raise UserError(f"classes={'+'.join(names)} names a class twice")
    return dict(zip(names, parts, strict=True))


def _parse_regions(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in filter(str.strip, text.split(";")):
        match = _REGION.fullmatch(part)
        if not match or match[1] in found:
            raise UserError(
                f"regions={text!r} is not a list of regions; expected name={{value, value}} with ; "
                'between them, such as "whole={1,2}; core={2}"'
            )
        found[match[1]] = match[2].split(",")
    return found


def _values(given: Any, what: str) -> tuple[int, ...]:
    items: Iterable[Any] = given if isinstance(given, list) else [given]
    found = []
    for item in items:
        text = str(item).strip()
        if isinstance(item, bool | float) or not _VALUE.fullmatch(text):
            raise UserError(
                f"{text!r} of {what} is not a mask value; expected a whole number or #rrggbb"
            )
        found.append(_colour(text) if text.startswith("#") else int(text))
    return tuple(found)


def _colour(text: str) -> int:
    """As ``rasters.read_mask`` gives it: a gray as its number."""
    packed = int(text[1:], 16)
    red, green, blue = packed >> 16, packed >> 8 & 255, packed & 255
    return red if red == green == blue else COLOUR + packed


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path).decode("utf-8-sig")
        said = tomllib.loads(text) if path.suffix.lower() == ".toml" else _read_csv(text, path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, csv.Error) as error:
        raise UserError(f"the values file {path} cannot be read: {error}") from None
    strange = said.keys() - {"classes", "regions", _IGNORE, _DROP}
    tables = [said.get(name, {}) for name in ("classes", "regions")]
    if strange or not any(tables) or not all(isinstance(table, dict) for table in tables):
        raise UserError(
            f"the values file {path} should have a table [classes] or [regions] of name = value, "
            f"and may have ignore and drop; it has {', '.join(sorted(said)) or 'nothing'}"
        )
    return said


def _read_csv(text: str, path: Path) -> dict[str, Any]:
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"value", "class"} <= rows[0].keys():
        raise UserError(f"the values file {path} needs a header row with value and class")
    said: dict[str, Any] = {"classes": {}, _IGNORE: [], _DROP: []}
    for row in rows:
        name, value = (row["class"] or "").strip(), (row["value"] or "").strip()
        into = said[name] if name in (_IGNORE, _DROP) else said["classes"].setdefault(name, [])
        into.append(value)
    return said
