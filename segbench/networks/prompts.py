"""Prompts for promptable networks, taken from a case's label map: what a user would have drawn.

They are part of the network: another prompt is another network. Jitter and points are drawn from
the case's content, so a case meets the same prompt every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from segbench.api import Case
from segbench.errors import UserError

Kind = Literal["box", "points", "centre"]
_MOST = 1000  # pixels of jitter, or points


@dataclass(frozen=True)
class Prompt:
    """Where prompts come from.

    Attributes:
        kind: the box around a class, points drawn within it, or its innermost point.
        jitter: pixels by which each side of a box, or each point, is moved at most.
        points: how many.
    """

    kind: Kind = "box"
    jitter: int = 0
    points: int = 3


@dataclass(frozen=True, eq=False)
class Drawn:
    """The prompt for one class of a case: a box (4,) x, y, x, y, or points (N, 2) x, y."""

    box: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None


def read_prompt(options: Mapping[str, str]) -> Prompt:
    """What ``prompt=box,jitter=5`` means.

    Raises:
        UserError: it means nothing.
    """
    kind = options.get("prompt", "box")
    if kind not in get_args(Kind):
        raise UserError(f"prompt={kind} is unknown; expected {', '.join(get_args(Kind))}")
    numbers = {}
    for key, default, low in (("jitter", 0, 0), ("points", 3, 1)):
        text = options.get(key, str(default))
        if not text.isdecimal() or not low <= int(text) <= _MOST:
            raise UserError(f"{key}={text} is no whole number from {low} to {_MOST}")
        numbers[key] = int(text)
    return Prompt(kind, numbers["jitter"], numbers["points"])  # type: ignore[arg-type]


def draw(prompt: Prompt, case: Case) -> list[Drawn | None]:
    """For each class but the background its prompt, None where the case has none of it."""
    return [_one(prompt, case, label) for label in range(1, len(case.class_names))]


def _one(prompt: Prompt, case: Case, label: int) -> Drawn | None:
    mask = case.labels == label
    if not mask.any():
        return None
    own = [label, *bytes.fromhex(case.sha256)]
    rng = np.random.default_rng(own)
    height, width = mask.shape

    def slipped(places: NDArray[Any]) -> NDArray[Any]:
        """The same way at every shift, further at a larger one."""
        ways = np.random.default_rng([1, *own]).uniform(-1, 1, places.shape)
        moved: NDArray[Any] = places + np.rint(ways * case.prompt_shift * max(mask.shape))
        return moved

    rows, columns = np.nonzero(mask)
    if prompt.kind == "box":
        ends = np.array([columns.min(), rows.min(), columns.max(), rows.max()], dtype=np.float32)
        ends += rng.integers(-prompt.jitter, prompt.jitter, 4, endpoint=True)
        ends = slipped(ends).reshape(2, 2).clip(0, [width - 1, height - 1])
        return Drawn(box=np.sort(ends, axis=0).reshape(4).astype(np.float32))
    if prompt.kind == "centre":
        from scipy.ndimage import distance_transform_edt

        inner = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        places = np.array([np.unravel_index(inner.argmax(), mask.shape)])[:, ::-1]
    else:
        chosen = rng.choice(len(rows), prompt.points, replace=len(rows) < prompt.points)
        places = np.stack([columns[chosen], rows[chosen]], 1)
    moved = places + rng.integers(-prompt.jitter, prompt.jitter, places.shape, endpoint=True)
    return Drawn(points=slipped(moved).clip(0, [width - 1, height - 1]).astype(np.float32))
