"""A case before and after an attack, as small pictures within the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.api import UNSCORED, Picture

MOST = 60
_SIDE = 220  # pixels that a picture has at least; smaller ones are repeated
_TRUTH, _CLEAN, _ATTACKED = (0, 158, 115), (86, 180, 233), (213, 94, 0)  # Okabe and Ito
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """A picture as the page shows it: data URIs of each plane's three views, and what to say."""

    picture: Picture
    views: Sequence[tuple[str, str, str]]
    said: str


def choose(pictures: Sequence[Picture], most_bytes: int) -> tuple[list[Shown], int]:
    """As many as there is room for, and how many were left out; the worst cases come first.

    Args:
        pictures: all that were kept.
        most_bytes: of all together, as they stand in the page.
    """
    order = {"worst": 0, "median": 1, "best": 2}
    ranked = sorted(enumerate(pictures), key=lambda one: (order.get(one[1].kind, 3), one[0]))
    shown: dict[int, Shown] = {}
    spent = 0
    for place, picture in ranked[:MOST]:
        one = Shown(picture, [*_views(picture)], _said(picture))
        size = sum(len(uri) for view in one.views for uri in view)
        if spent + size > most_bytes:
            continue
        spent += size
        shown[place] = one
    return [shown[place] for place in sorted(shown)], len(pictures) - len(shown)


def _said(picture: Picture) -> str:
    return (
        f"{picture.case_id} of {picture.model} under {picture.attack} at {picture.eps}: the "
        f"{picture.kind} case"
    )


def _views(picture: Picture) -> Iterator[tuple[str, str, str]]:
    for plane in picture.planes:
        clean = outlined(
            plane["clean"], [(plane["label"], _TRUTH), (plane["clean_labels"], _CLEAN)]
        )
        attacked = outlined(
            plane["adversarial"],
            [(plane["adversarial_label"], _TRUTH), (plane["adversarial_labels"], _ATTACKED)],
        )
        yield _uri(clean), _uri(attacked), _uri(_enlarged(diverging(plane["change"])))


def outlined(
    image: NDArray[Any], masks: Sequence[tuple[NDArray[Any], tuple[int, int, int]]]
) -> Pixels:
    """An image in colour, enlarged, with the outlines of masks one pixel wide; (H, W, 3)."""
    colour = _enlarged(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)).copy()
    for labels, paint in masks:
        colour[_edge(_enlarged(labels))] = paint
    return colour


def diverging(change: NDArray[np.int8]) -> Pixels:
    """Signed changes, -127 to 127, from blue by white to red; (H, W, 3)."""
    share = change.astype(np.float64)[..., None] / 127
    red, blue, white = np.array([178, 24, 43.0]), np.array([33, 102, 172.0]), np.array([247.0] * 3)
    towards = np.where(share > 0, red, blue)
    return np.asarray(np.round(white + np.abs(share) * (towards - white)), np.uint8)


def _enlarged(image: NDArray[Any]) -> Pixels:
    times = max(1, -(-_SIDE // max(image.shape[:2])))
    return np.asarray(np.repeat(np.repeat(image, times, axis=0), times, axis=1), np.uint8)


def _edge(labels: Pixels) -> NDArray[np.bool_]:
    """Pixels of a class with a neighbour below or to the right, or the other way, of another.

    What is not scored has no edge, and nothing has one against it.
    """
    edge, scored = np.zeros(labels.shape, bool), labels != UNSCORED
    across = (labels[:, 1:] != labels[:, :-1]) & scored[:, 1:] & scored[:, :-1]
    down = (labels[1:] != labels[:-1]) & scored[1:] & scored[:-1]
    edge[:, 1:] |= across & (labels[:, 1:] > 0)
    edge[:, :-1] |= across & (labels[:, :-1] > 0)
    edge[1:] |= down & (labels[1:] > 0)
    edge[:-1] |= down & (labels[:-1] > 0)
    return edge


def _uri(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=70, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
