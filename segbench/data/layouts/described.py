"""What a ``dataset.json`` says of labels: the Decathlon's, and nnU-Net's with regions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.atomic import read_regular
from segbench.data.coding import Coding
from segbench.data.faults import Faults
from segbench.data.sources import Source
from segbench.data.values import ValueMap, region_map
from segbench.errors import UserError

_BACKGROUND, _IGNORE = "background", "ignore"


def read_description(path: Path, expected: str) -> Mapping[str, Any]:
    """A ``dataset.json``; ``expected`` says of what kind of folder.

    Raises:
        UserError: there is none, or it is no map.
    """
    try:
        description = json.loads(read_regular(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}; expected {expected}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(description, dict):
        raise UserError(f"{path} is not a map of names to values")
    return description


def described_coding(labels: Any, path: Path) -> Coding:
    """``labels``: number to name, or name to number, or name to the numbers of a region.

    Numbers may have gaps; ``ignore`` is neither trained on nor scored. Regions are structures of
    their own, which may overlap.

    Raises:
        UserError: it is no such map.
    """
    try:
        numbers = dict(_name_and_numbers(key, value) for key, value in labels.items())
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"{path}: labels is {labels!r}; expected a map such as "
            '{"0": "background", "1": "tumour"}'
        ) from None
    ignored = numbers.pop(_IGNORE, ())
    if any(len(of) > 1 for of in numbers.values()):
        return _region_coding(numbers, ignored, path)
    ordered = sorted((of[0], name) for name, of in numbers.items())
    values = [value for value, _ in ordered]
    if len(ordered) < 2 or len(ordered) < len(labels) - bool(ignored) or values[0] != 0:
        raise UserError(
            f"{path}: labels is {labels!r}; expected two or more different numbers, 0 for the "
            "background"
        )
    pairs = tuple((value, label) for label, value in enumerate(values))
    return Coding(tuple(name for _, name in ordered), pairs, ignored)


def check_channels(
    sources: Sequence[Source], description: Mapping[str, Any], faults: Faults
) -> None:
    """Note every image that has not as many channels as the description names."""
    named = description.get("channel_names", description.get("modality"))
    for source in sources if isinstance(named, dict) else ():
        if source.shape[0] != len(named):
            faults.add(
                source.image, f"has {source.shape[0]} channels, dataset.json names {len(named)}"
            )


def _region_coding(
    numbers: Mapping[str, tuple[int, ...]], ignored: tuple[int, ...], path: Path
) -> Coding:
    areas = {name: of for name, of in numbers.items() if name != _BACKGROUND}
    inside = [value for of in areas.values() for value in of]
    if 0 in inside or numbers.get(_BACKGROUND, (0,)) != (0,) or set(inside) & set(ignored):
        raise UserError(
            f"{path}: labels has a region that holds the background, or what is ignored"
        )
    given: ValueMap = region_map(areas)
    return Coding(given.names, given.labels, ignored, given.regions)


def _name_and_numbers(key: str, value: Any) -> tuple[str, tuple[int, ...]]:
    """The Decathlon writes {"1": "tumour"}, its successors {"tumour": 1} or {"whole": [1, 2]}."""
    if isinstance(value, list):
        if not value or not all(type(item) is int for item in value):
            raise ValueError(value)
        return key, tuple(value)
    if isinstance(value, int):
        return key, (value,)
    return str(value), (int(key),)
