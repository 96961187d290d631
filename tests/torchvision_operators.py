"""Declares what torchvision's compiled part would have, where that was built for another torch.

Its Python part, all that segmentation networks ask for, then imports. It fails otherwise where it
describes these two operators; they are declared without a body, so that calling one is an error.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

_OPERATORS = ("nms", "qnms")
_KEPT: list[Any] = []  # what is declared lasts as long as the library that it was declared in


def declare_where_missing() -> None:
    """Nothing where torchvision is not installed, or works."""
    found = find_spec("torchvision")
    if _KEPT or found is None or not found.submodule_search_locations:
        return
    import torch

    for compiled in Path(found.submodule_search_locations[0]).glob("_C.*"):
        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            continue
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
