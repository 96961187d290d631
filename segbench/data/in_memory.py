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

from segbench.api import Case, Entry
from segbench.data.arrays import (
    checked_images,
    checked_labels,
    checked_names,
    checked_spacing,
    default_names,
)
from segbench.errors import UserError
from segbench.plugins.registry import suggest

SPLIT = "test"


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
        ignore_index: the label of pixels that are not scored, nor attacked for; the image is
            changed there as elsewhere.
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
        self.images = checked_images(images)
        self.labels = checked_labels(labels, self.images.shape, ignore_index)
        self.ignore_index, self.name = ignore_index, _checked_name(name)
        self.class_names = checked_names(class_names, self.labels, ignore_index)
        count = len(self.images)
        self.case_ids = _one_per_case("case_ids", case_ids, count) or _numbered(count)
        if len(set(self.case_ids)) < count:
            raise UserError(
                "case_ids holds a name twice; expected a name of its own for every case"
            )
        self.group_ids = _one_per_case("group_ids", group_ids, count) or self.case_ids
        self.spacing = None if spacing is None else checked_spacing(spacing, self.spatial_dims)
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
        other.class_names = default_names(count)
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


def _one_per_case(what: str, given: Sequence[str] | None, count: int) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = tuple(map(str, given))
    if len(names) != count:
        raise UserError(f"{what} holds {len(names)} names for {count} images; give one per image")
    return names


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"{n:0{max(4, len(str(count - 1)))}d}" for n in range(count))
