"""Generated data sets: the same images on every machine, nothing to download.

Cases are a pure function of (seed, split, index), so a larger data set begins with the smaller
one's cases, and they lie on the grid of an 8-bit file, as real ones do.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from segbench.api import Case, Entry, Intensity
from segbench.data.phantoms.chest import draw_chest
from segbench.data.phantoms.skin import draw_lesion
from segbench.errors import UserError
from segbench.plugins.registry import suggest

FORMAT = 1  # part of the fingerprint: raise it when the drawings change
SPLITS = ("train", "test")
MAX_CASES = 100_000
Drawing = tuple[NDArray[np.float64], NDArray[np.bool_]]  # (C, H, W) in [0, 1], (H, W)


@dataclass(frozen=True)
class Phantom(ABC):
    """Square images of two classes.

    Attributes:
        size: side in pixels.
        train_cases: how many cases train has.
        test_cases: how many test has.
        seed: another seed, other cases.
    """

    size: int = 96
    train_cases: int = 128
    test_cases: int = 48
    seed: int = 0

    kind: ClassVar[int]
    prefix: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]
    in_channels: ClassVar[int]
    spatial_dims: ClassVar[int] = 2
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __post_init__(self) -> None:
        limits = {
            "size": (32, 1024),
            "train_cases": (1, MAX_CASES),
            "test_cases": (1, MAX_CASES),
            "seed": (0, 2**63),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name}={getattr(self, name)} is out of range ({low} to {high})")

    @staticmethod
    @abstractmethod
    def draw(size: int, random: np.random.Generator) -> Drawing:
        """One image and its foreground."""

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        return f"images are generated, and scored, at {self.size} x {self.size}"

    def entries(self, split: str) -> Sequence[Entry]:
        """The cases of a split, in the order of their numbers.

        Raises:
            UserError: there is no such split.
        """
        if split not in SPLITS:
            raise UserError(f"unknown split {split!r}{suggest(split, SPLITS)}")
        count = self.train_cases if split == "train" else self.test_cases
        shape = (self.in_channels, self.size, self.size)
        names = [f"{self.prefix}-{split}-{index:05d}" for index in range(count)]
        return [Entry(name, name, shape) for name in names]

    def load(self, case_id: str) -> Case:
        """One case, drawn anew.

        Raises:
            UserError: there is no such case.
        """
        prefix, _, rest = case_id.rpartition("-")
        split = prefix.removeprefix(f"{self.prefix}-")
        count = {"train": self.train_cases, "test": self.test_cases}.get(split, 0)
        if not (rest.isdecimal() and int(rest) < count) or case_id != f"{prefix}-{int(rest):05d}":
            raise UserError(
                f"unknown case {case_id!r}; expected {self.prefix}-test-00000 to "
                f"{self.prefix}-test-{self.test_cases - 1:05d}, or train"
            )
        counter = (self.kind << 48) | (SPLITS.index(split) << 32) | int(rest)
        random = np.random.Generator(
            np.random.Philox(key=np.array([self.seed, counter], np.uint64))
        )
        image, foreground = self.draw(self.size, random)
        levels = np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.float32)
        return Case(
            case_id=case_id,
            group_id=case_id,
            image=levels / np.float32(255),
            labels=foreground.astype(np.int64),
            class_names=self.class_names,
            intensity=(Intensity(0.0, 255.0, 8),) * self.in_channels,
        )

    def fingerprint(self) -> str:
        """SHA-256 of the options and the version of the drawings."""
        record: list[Any] = [self.prefix, FORMAT, asdict(self)]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class PhantomCXR(Phantom):
    """Chest radiographs: two lungs of low and varying contrast behind ribs, heart and noise."""

    kind = 1
    prefix = "cxr"
    class_names = ("background", "lung")
    in_channels = 1
    draw = staticmethod(draw_chest)


@dataclass(frozen=True)
class PhantomSkin(Phantom):
    """Dermoscopy: one lesion of irregular border and colour under hairs and vignette."""

    kind = 2
    prefix = "skin"
    class_names = ("background", "lesion")
    in_channels = 3
    draw = staticmethod(draw_lesion)
