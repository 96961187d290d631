"""Generated volumes, for benchmarks in three dimensions without any file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from segbench.api import Case, Entry


@dataclass(frozen=True)
class Volumes:
    """Bright noisy balls of random place and radius in a noisy cube of `size` voxels a side."""

    size: int
    cases: int

    class_names: ClassVar[tuple[str, ...]] = ("background", "ball")
    in_channels: ClassVar[int] = 1
    spatial_dims: ClassVar[int] = 3
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        return f"volumes are generated, and scored, at {self.size} voxels a side"

    def entries(self, split: str) -> Sequence[Entry]:
        """The same cases, whatever the split."""
        shape = (1, self.size, self.size, self.size)
        return [Entry(f"ball-{i:03d}", f"ball-{i:03d}", shape) for i in range(self.cases)]

    def load(self, case_id: str) -> Case:
        """One volume, drawn anew."""
        random = np.random.default_rng(int(case_id.rpartition("-")[2]))
        place, radius = random.uniform(0.35, 0.65, 3), random.uniform(0.15, 0.3)
        axes = np.meshgrid(*[np.linspace(0, 1, self.size)] * 3, indexing="ij")
        inside = sum((axis - x) ** 2 for axis, x in zip(axes, place, strict=True)) < radius**2
        image = 0.35 + 0.3 * inside + 0.1 * random.standard_normal(inside.shape)
        return Case(
            case_id=case_id,
            group_id=case_id,
            image=np.clip(image, 0, 1).astype(np.float32)[None],
            labels=inside.astype(np.int64),
            class_names=self.class_names,
        )

    def fingerprint(self) -> str:
        """Its options."""
        return f"volumes-{self.size}-{self.cases}"
