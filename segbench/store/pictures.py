"""Small pictures of a few cases, kept by every attack: what a page shows, and never what is scored.

<workspace>/pictures/<cell key>/<score>-<content>.safetensors     8-bit, at most 160 pixels a side

Of every cell the case with the lowest score that was met, the one with the highest, and one from
the middle. They may be deleted at any time.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segbench.atomic import remove
from segbench.errors import MachineError, UserError
from segbench.store.tensors import load_arrays, save_tensors

if TYPE_CHECKING:
    from segbench.store.workspace import Workspace

VIEWS = (
    "clean", "adversarial", "label", "adversarial_label", "clean_labels", "adversarial_labels",
    "change",
)  # fmt: skip
_NAME = re.compile(r"(?P<score>[01]\.\d{6})-(?P<content>[0-9a-f]{64})\.safetensors")
_KEPT = 3
_MOST = 10**6  # numbers of a view


@dataclass(frozen=True, eq=False)
class Kept:
    """A case as it is kept.

    Attributes:
        planes: see ``api.Picture``.
        scale: the largest change, in fractions of [0, 1].
        facts: what is known of the case itself, such as its spacing.
    """

    content: str
    planes: tuple[Mapping[str, NDArray[Any]], ...]
    scale: float
    facts: Mapping[str, str]


def wanted(workspace: Workspace, key: str, scores: Mapping[str, float]) -> list[str]:
    """Which of these cases (content -> score) are worth keeping beside what is kept of the cell."""
    workspace.refresh(workspace.pictures / key)
    there = [*_kept(workspace, key)]
    ranked = sorted(scores, key=lambda content: scores[content])
    if not ranked:
        return []
    if len(there) < _KEPT:
        return list(dict.fromkeys([ranked[0], ranked[len(ranked) // 2], ranked[-1]]))
    lowest, highest = min(score for score, _ in there), max(score for score, _ in there)
    found = [ranked[0]] * (scores[ranked[0]] < lowest - 1e-6)
    return found + [ranked[-1]] * (scores[ranked[-1]] > highest + 1e-6)


def keep_picture(workspace: Workspace, key: str, score: float, kept: Kept) -> None:
    """Write a picture, and remove what it takes the place of.

    Raises:
        MachineError: the disk refused.
    """
    import torch

    views = {
        f"{number}.{name}": np.ascontiguousarray(plane[name])
        for number, plane in enumerate(kept.planes)
        for name in VIEWS
    }
    packed = {
        name: np.frombuffer(zlib.compress(v.tobytes(), 9), np.uint8) for name, v in views.items()
    }
    tensors = {name: torch.from_numpy(view.copy()) for name, view in packed.items()}
    facts = {
        "scale": repr(kept.scale),
        "facts": json.dumps(dict(kept.facts)),
        "shapes": json.dumps({name: [v.dtype.name, *v.shape] for name, v in views.items()}),
    }
    name = f"{min(max(score, 0.0), 1.0):.6f}-{kept.content}.safetensors"
    save_tensors(workspace.pictures / key / name, tensors, facts)
    there = sorted(_kept(workspace, key))
    with suppress(MachineError):
        for _, path in there[1:-1][: max(0, len(there) - _KEPT)]:
            remove(path)


def pictured_cells(workspace: Workspace) -> set[str]:
    """The keys of the cells of which there are pictures."""
    if workspace.mirror:
        return {*workspace.mirror.folders(workspace.pictures)}
    return {path.name for path in workspace.pictures.glob("*")}


def kept_pictures(workspace: Workspace, key: str) -> dict[str, Path]:
    """Content -> file of every picture of a cell."""
    workspace.refresh(workspace.pictures / key)
    names = ((_NAME.fullmatch(path.name), path) for _, path in _kept(workspace, key))
    return {match["content"]: path for match, path in names if match}


def load_picture(path: Path) -> Kept | None:
    """A picture; None where it is gone or damaged, which is no one's loss."""
    match = _NAME.fullmatch(path.name)
    try:
        loaded = load_arrays(path)
        if loaded is None or match is None:
            return None
        arrays, facts = loaded
        shapes = json.loads(facts["shapes"])
        views = {name: _unpacked(arrays[name], *shapes[name]) for name in shapes}
        numbers = sorted({int(name.partition(".")[0]) for name in views})
        for n in numbers:  # of an older version, whose pictures all have the truth of the clean one
            views.setdefault(f"{n}.adversarial_label", views[f"{n}.label"])
        planes = tuple({view: views[f"{n}.{view}"] for view in VIEWS} for n in numbers)
        known = {str(k): str(v) for k, v in json.loads(facts["facts"]).items()}
        return Kept(match["content"], planes, _scale(float(facts["scale"]), planes), known)
    except (UserError, MachineError, ValueError, KeyError, TypeError, zlib.error):
        return None


def _scale(kept: float, planes: Sequence[Mapping[str, NDArray[Any]]]) -> float:
    """The largest change; older versions kept 1, the whole range, of an image that nothing changed.

    Planes without a change may be of a volume that changed elsewhere, which its scale tells.
    """
    unchanged = kept == 1 and not any(plane["change"].any() for plane in planes)
    return 0.0 if unchanged else kept


def _unpacked(packed: NDArray[np.uint8], kind: str, *shape: int) -> NDArray[Any]:
    """An array of as many 8-bit numbers as its shape has, whatever the file would unfold to."""
    if kind not in ("uint8", "int8") or not 0 < math.prod(shape) <= _MOST:
        raise ValueError(f"no picture of {kind} {shape}")
    content = zlib.decompressobj().decompress(packed.tobytes(), math.prod(shape))
    return np.frombuffer(content, kind).reshape(shape)


def _kept(workspace: Workspace, key: str) -> list[tuple[float, Path]]:
    paths = sorted((workspace.pictures / key).glob("*.safetensors"))
    named = [(_NAME.fullmatch(path.name), path) for path in paths]
    return [(float(match["score"]), path) for match, path in named if match]
