"""What a data set gives: cases of named splits, each an image with its truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Intensity:
    """How [0, 1] maps back to the file's own units: ``low + value * (high - low)``.

    ``bits`` is the depth of an integer file (8, 12, 16), None for floating point.
    """

    low: float
    high: float
    bits: int | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One image to be segmented, with its truth.

    Attributes:
        case_id: unique in its data set.
        group_id: the patient or volume; cases of one group are not independent.
        image: float32 (C, *spatial) in [0, 1].
        labels: int64 (*spatial), values 0..K-1 or ``ignore_index``; see ``regions``.
        class_names: K names, background first.
        intensity: the map back to the file's own units of each channel, where known.
        spacing: millimetres per pixel along each spatial axis, where known.
        affine: the file's 4 x 4 voxel-to-world matrix, where known.
        source: the image file it came from, None if generated.
        depth: which axial slice of a volume it is, counted along the canonical third axis.
        nsd_tolerance: the distance that the normalised surface Dice forgives, in mm, or in pixels
            without a spacing; None is the larger of 1 mm and one pixel.
        regions: for structures that overlap, the labels that each of ``class_names[1:]`` is made
            of; labels are then parts and not classes, as in nnU-Net. None where they are classes.
        valid: bool (*spatial), the pixels that may be attacked; elsewhere labels are
            ``ignore_index``. None for all.
        prompt_shift: how far a prompt is moved at most, as a share of the image's longest edge; set
            by the engine under an attack that moves prompts, and no part of what is attacked.
    """

    case_id: str
    group_id: str
    image: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    ignore_index: int | None = None
    intensity: tuple[Intensity, ...] | None = None
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    source: Path | None = None
    depth: int | None = None
    nsd_tolerance: float | None = None
    regions: tuple[tuple[int, ...], ...] | None = None
    valid: NDArray[np.bool_] | None = None
    prompt_shift: float = 0.0

    @cached_property
    def sha256(self) -> str:
        """What is attacked and scored, as SHA-256 (hex); under whatever name, in whatever file.

        Over the pixels, labels and their meaning, spacing and intensity. It is what rows know a
        case by, and what its random starts are drawn from.
        """
        facts: dict[str, Any] = {
            "shape": self.image.shape,
            "class_names": self.class_names,
            "ignore_index": self.ignore_index,
            "spacing": self.spacing,
            "intensity": self.intensity and [asdict(channel) for channel in self.intensity],
        }
        if self.regions is not None:
            facts["regions"] = self.regions
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update(_bytes(self.image, "<f4"))
        digest.update(_bytes(self.labels, "<i8"))
        if self.valid is not None:
            digest.update(_bytes(self.valid, "?"))
        return digest.hexdigest()


def _bytes(array: NDArray[Any], kind: str) -> memoryview:
    """The numbers of an array in its order, without a copy where they lie so."""
    import numpy as np

    return np.ascontiguousarray(array, dtype=kind).data.cast("B")


@dataclass(frozen=True)
class Entry:
    """A case that has not been loaded: its names and the shape (C, *spatial) it will have."""

    case_id: str
    group_id: str
    shape: tuple[int, ...]


class Dataset(Protocol):
    """Random access to the Cases of named splits.

    A plug-in of the group ``segbench.datasets`` is a factory of these: a frozen dataclass or a
    function whose keyword parameters are its options, with ``root: Path | None`` for the folder
    (``segbench train --data-root``). It validates everything at construction and raises
    ``segbench.errors.UserError`` naming every bad file at once.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names, background first."""
        ...

    @property
    def in_channels(self) -> int:
        """C of every image."""
        ...

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        ...

    @property
    def resize_rule(self) -> str:
        """One sentence: how files become images, and at what resolution they are scored."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits; ``train`` and ``test`` at least."""
        ...

    def entries(self, split: str) -> Sequence[Entry]:
        """The cases of a split, one of ``splits``, in a fixed order, without reading pixels."""
        ...

    def load(self, case_id: str) -> Case:
        """One case, its image in [0, 1]; the same bytes every time.

        Raises ``segbench.errors.UserError`` naming a file that can no longer be read.
        """
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that determines its cases: file contents and options."""
        ...


@runtime_checkable
class SaysNotes(Protocol):
    """A data set that tells what it found and what it left out; said once, before anything runs."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user."""
        ...
