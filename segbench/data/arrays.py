"""Arrays of a user's own checked: images, labels, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.errors import UserError

_IGNORE = "(ignore_index={value} of segbench.InMemory and segbench.attack)"


def _array(values: Any, what: str) -> NDArray[Any]:
    """A copy in memory of a tensor on any device, or of what numpy makes an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # which numpy does not have
            values = values.float()
        values = values.numpy()
    try:
        return np.array(values)
    except ValueError as error:
        raise UserError(f"{what} make no array, since their sizes differ: {error}") from None


def checked_images(values: Any) -> NDArray[np.float32]:
    """(N, C, *spatial) in [0, 1], copied.

    Raises:
        UserError: they are of another shape, kind or range.
    """
    images = _array(values, "images")
    if images.ndim not in (4, 5):
        raise UserError(
            f"images have the shape {images.shape}; expected (N, C, H, W), or (N, C, H, W, D) for "
            "volumes"
        )
    if not images.size:
        raise UserError(f"images have the shape {images.shape}, which holds no pixel")
    if images.dtype.kind == "f":
        images = np.ascontiguousarray(images, np.float32)
    elif images.dtype.kind not in "iub":
        raise UserError(f"images are of type {images.dtype}; expected floating point in 0 to 1")
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise UserError("images hold NaN or infinite values; expected values in 0 to 1")
    if low < 0 or high > 1:
        raise UserError(f"images lie in {low:g} to {high:g}, not in 0 to 1; {_hint(low, high)}")
    if images.dtype.kind != "f":
        raise UserError(
            f"images are of type {images.dtype}, not floating point in 0 to 1; {_whole(images)}"
        )
    return images


def _hint(low: float, high: float) -> str:
    if low < 0:
        return (
            "images stay as they are stored, and normalisation belongs inside the network, or into "
            "normalize="
        )
    for top in (255, 4095, 65535):
        if 1.5 < high <= top:
            return f"did you mean images / {top}?"
    return "scale them, or clip what rounding has left outside"


def _whole(images: NDArray[Any]) -> str:
    top = 1 if images.dtype.kind == "b" else np.iinfo(images.dtype).max
    return "did you mean images.float()?" if top == 1 else f"did you mean images / {top}?"


def checked_labels(
    values: Any, shape: tuple[int, ...], ignore_index: int | None
) -> NDArray[np.int64]:
    """(N, *spatial) for images of that shape, copied.

    Raises:
        UserError: they are of another shape, or hold what is no class.
    """
    labels = _array(values, "labels")
    expected = (shape[0], *shape[2:])
    if labels.shape != expected:
        hint = "; did you mean labels[:, 0]?" if labels.shape == (shape[0], 1, *shape[2:]) else ""
        raise UserError(
            f"labels have the shape {labels.shape}; images of shape {shape} need {expected}{hint}"
        )
    if labels.dtype.kind not in "iub":
        raise UserError(
            f"labels are of type {labels.dtype}; expected whole numbers, the class of every pixel"
        )
    labels = np.ascontiguousarray(labels, np.int64)
    counted = labels if ignore_index is None else labels[labels != ignore_index]
    if counted.size and (low := int(counted.min())) < 0:
        raise UserError(
            f"labels hold {low}, and classes are counted from 0; where that marks pixels to be "
            f"ignored, say so {_IGNORE.format(value=low)}"
        )
    if counted.size and set(np.unique(counted).tolist()) == {0, 255}:
        raise UserError("labels hold 0 and 255 only; did you mean labels // 255?")
    empty = (labels == ignore_index).reshape(len(labels), -1).all(1)
    if ignore_index is not None and empty.any():
        raise UserError(
            f"every pixel of case {int(empty.argmax())} is to be ignored, so nothing of it can be "
            "scored; leave it out"
        )
    return labels


def checked_names(
    names: Sequence[str] | None, labels: NDArray[np.int64], ignore_index: int | None
) -> tuple[str, ...]:
    """The class names; as many as the labels need where none are given.

    Raises:
        UserError: they are no names, or fewer than the labels need.
    """
    counted = labels if ignore_index is None else labels[labels != ignore_index]
    highest = int(counted.max())
    if names is None:
        return default_names(max(highest + 1, 2))
    if isinstance(names, str) or len(names) < 2 or not all(isinstance(n, str) for n in names):
        raise UserError(f"class_names = {names!r}; expected two names or more, background first")
    if highest >= len(names):
        raise UserError(
            f"labels hold {highest}, but there are {len(names)} classes, 0 to {len(names) - 1}; "
            f"where it marks pixels to be ignored, say so {_IGNORE.format(value=highest)}"
        )
    return tuple(names)


def default_names(count: int) -> tuple[str, ...]:
    """Of so many classes, background first."""
    if count == 2:
        return ("background", "foreground")
    return ("background", *(f"class {n}" for n in range(1, count)))


def checked_spacing(spacing: Sequence[float], dims: int) -> tuple[float, ...]:
    """Millimetres along each axis.

    Raises:
        UserError: as many are not given, or one is no length.
    """
    found = tuple(map(float, spacing))
    if len(found) != dims or not all(0 < value < np.inf for value in found):
        raise UserError(
            f"spacing = {spacing!r}; expected {dims} numbers above 0, millimetres per pixel"
        )
    return found
