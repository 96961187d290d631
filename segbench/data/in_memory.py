"""Images and labels that are in memory already, as a data set: of a notebook, or a training loop.

They are checked once, when the data set is made, and copied, so that its fingerprint stays true.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.api import Case, Entry
from segbench.errors import UserError
from segbench.plugins.registry import suggest

SPLIT = "test"
_IGNORE = "(ignore_index={value} of segbench.InMemory and segbench.attack)"


class InMemory:
    """Images with their labels, all to be attacked.

    >>> import numpy as np
    >>> data = InMemory(np.zeros((3, 1, 32, 32), "float32"), np.zeros((3, 32, 32), int))
    >>> data.class_names, data.in_channels, len(data.entries("test"))
    (('background', 'foreground'), 1, 3)
    >>> InMemory(np.full((1, 1, 4, 4), 255.0), np.zeros((1, 4, 4), int))
    Traceback (most recent call last):
    segbench.errors.UserError: images lie in 255 to 255, not in 0 to 1; did you mean images / 255?

    Args:
        images: (N, C, *spatial) in [0, 1], floating point; a tensor, or what numpy makes an array.
        labels: (N, *spatial), whole numbers 0 to K - 1 or ``ignore_index``.
        class_names: K names, background first; None for as many as the labels hold.
        ignore_index: the label of pixels that are neither attacked nor scored.
        case_ids: N different names; None for their numbers.
        group_ids: the patient of each case; None where all are independent.
        spacing: millimetres per pixel along each spatial axis.
        name: what reports call the data.

    Raises:
        UserError: an array has another shape, kind or range.
    """

    splits = ("train", SPLIT, "all")

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        case_ids: Sequence[str] | None = None,
        group_ids: Sequence[str] | None = None,
        spacing: Sequence[float] | None = None,
        name: str = "arrays",
    ) -> None:
        self.images = _checked_images(images)
        self.labels = _checked_labels(labels, self.images.shape, ignore_index)
        self.ignore_index, self.name = ignore_index, _checked_name(name)
        self.class_names = _checked_names(class_names, self.labels, ignore_index)
        count = len(self.images)
        self.case_ids = _one_per_case("case_ids", case_ids, count) or _numbered(count)
        if len(set(self.case_ids)) < count:
            raise UserError(
                "case_ids holds a name twice; expected a name of its own for every case"
            )
        self.group_ids = _one_per_case("group_ids", group_ids, count) or self.case_ids
        self.spacing = None if spacing is None else _checked_spacing(spacing, self.spatial_dims)
        self._places = {case_id: n for n, case_id in enumerate(self.case_ids)}
        self._pixels = hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()

    @property
    def in_channels(self) -> int:
        """C of every image."""
        return int(self.images.shape[1])

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self.images.ndim - 2

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        size = " x ".join(map(str, self.images.shape[2:]))
        return f"images are taken as they are given, and scored, at {size}"

    def with_classes(self, count: int) -> InMemory:
        """The same cases of a data set with so many classes, which the labels need not all hold."""
        other = copy.copy(self)
        other.class_names = _default_names(count)
        return other

    def entries(self, split: str) -> Sequence[Entry]:
        """All cases, in order, of the split ``test``.

        Raises:
            UserError: there is no such split, or it is ``train``, which has no cases.
        """
        if split not in self.splits:
            raise UserError(f"no split {split!r}{suggest(split, self.splits)}")
        if split == "train":
            raise UserError(
                f"data given as arrays are all of the split {SPLIT}; an attack that is fitted "
                "first needs a data set with cases to train on"
            )
        shape = self.images.shape[1:]
        return [Entry(*ids, shape) for ids in zip(self.case_ids, self.group_ids, strict=True)]

    def load(self, case_id: str) -> Case:
        """One case.

        Raises:
            UserError: there is no such case.
        """
        if case_id not in self._places:
            raise UserError(f"unknown case {case_id!r}{suggest(case_id, self.case_ids)}")
        n = self._places[case_id]
        return Case(
            case_id=case_id,
            group_id=self.group_ids[n],
            image=self.images[n],
            labels=self.labels[n],
            class_names=self.class_names,
            ignore_index=self.ignore_index,
            spacing=self.spacing,
        )

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all pixels, labels and names."""
        facts = [
            self._pixels, self.images.shape, self.class_names, self.ignore_index, self.case_ids,
            self.group_ids, self.spacing,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _checked_name(name: str) -> str:
    """Reports show it where other data have their spec."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.+-]*", name):
        raise UserError(f"name = {name!r}; expected letters, digits and _ . + - only")
    return name


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


def _checked_images(values: Any) -> NDArray[np.float32]:
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


def _checked_labels(
    values: Any, shape: tuple[int, ...], ignore_index: int | None
) -> NDArray[np.int64]:
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


def _checked_names(
    names: Sequence[str] | None, labels: NDArray[np.int64], ignore_index: int | None
) -> tuple[str, ...]:
    """The class names; as many as the labels need where none are given."""
    counted = labels if ignore_index is None else labels[labels != ignore_index]
    highest = int(counted.max())
    if names is None:
        return _default_names(max(highest + 1, 2))
    if isinstance(names, str) or len(names) < 2 or not all(isinstance(n, str) for n in names):
        raise UserError(f"class_names = {names!r}; expected two names or more, background first")
    if highest >= len(names):
        raise UserError(
            f"labels hold {highest}, but there are {len(names)} classes, 0 to {len(names) - 1}; "
            f"where it marks pixels to be ignored, say so {_IGNORE.format(value=highest)}"
        )
    return tuple(names)


def _default_names(count: int) -> tuple[str, ...]:
    if count == 2:
        return ("background", "foreground")
    return ("background", *(f"class {n}" for n in range(1, count)))


def _checked_spacing(spacing: Sequence[float], dims: int) -> tuple[float, ...]:
    found = tuple(map(float, spacing))
    if len(found) != dims or not all(0 < value < np.inf for value in found):
        raise UserError(
            f"spacing = {spacing!r}; expected {dims} numbers above 0, millimetres per pixel"
        )
    return found


def _one_per_case(what: str, given: Sequence[str] | None, count: int) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = tuple(map(str, given))
    if len(names) != count:
        raise UserError(f"{what} holds {len(names)} names for {count} images; give one per image")
    return names


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"{n:0{max(4, len(str(count - 1)))}d}" for n in range(count))
