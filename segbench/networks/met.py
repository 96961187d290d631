"""A case as a network of volumes must know it: how its voxels lie in the file, in what units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from segbench.api import Case, Dataset


class Met:
    """How the image of a case, canonical and in [0, 1], lies in its file.

    Attributes:
        spacing: mm along the file's own axes.
    """

    def __init__(self, case: Case, *, canonical: bool = False) -> None:
        dims = case.image.ndim - 1
        self.axes: tuple[int, ...] = tuple(range(dims))
        self.flips: tuple[int, ...] = ()
        if dims == 3 and not canonical and case.affine is not None:
            import nibabel

            turned = nibabel.io_orientation(case.affine)
            self.axes = tuple(int(axis) for axis in turned[:, 0])
            self.flips = tuple(int(axis) for axis in np.flatnonzero(turned[:, 1] < 0))
        spacing = case.spacing or (1.0,) * dims
        self.spacing = [float(spacing[axis]) for axis in self.axes]
        maps = case.intensity or ()
        self.low = [channel.low for channel in maps] or [0.0]
        self.range = [channel.high - channel.low for channel in maps] or [1.0]

    def in_units(self, image: Tensor) -> Tensor:
        """(C, *spatial) in [0, 1] -> the same in the file's units."""
        column = (-1, *[1] * (image.dim() - 1))
        low, span = (image.new_tensor(n).reshape(column) for n in (self.low, self.range))
        return low + image * span

    def of_file(self, image: Tensor) -> Tensor:
        """(C, *canonical) -> (C, *the file's axes)."""
        turned = image.permute(0, *(axis + 1 for axis in self.axes))
        return turned.flip([axis + 1 for axis in self.flips])

    def canonical(self, logits: Tensor) -> Tensor:
        """(K, *the file's axes) -> (K, *canonical)."""
        turned = logits.flip([axis + 1 for axis in self.flips])
        return turned.permute(0, *(int(axis) + 1 for axis in np.argsort(self.axes)))


def clipped_data(
    dataset: Dataset, who: str, seen: tuple[float, float] | None = None
) -> tuple[str, ...]:
    """The sentence about data that are clipped where a network's own training did not clip them.

    Args:
        seen: the values that the network clips to itself; None where it needs them all.
    """
    if dataset.spatial_dims != 3:
        return ()
    window = str(getattr(dataset, "window", ""))
    needed = "all values of the files" if seen is None else f"{seen[0]:g} to {seen[1]:g}"
    if window:
        ends = [float(end) for end in window.split("..")]
        if seen is not None and ends[0] <= seen[0] and seen[1] <= ends[-1]:
            return ()
        return (f"the data are clipped to the window {window}; {who} needs {needed}",)
    lower, upper = getattr(dataset, "lower", 0), getattr(dataset, "upper", 100)
    if lower <= 0 and upper >= 100:
        return ()
    return (
        f"the data are clipped at their percentiles {lower:g} and {upper:g}; {who} needs {needed}: "
        "give lower=0,upper=100 or a window",
    )


def proposed(seen: tuple[float, float] | None, spacing: Sequence[float] = ()) -> str:
    """How data are to be given to a network of volumes."""
    window = f"window={seen[0]:g}..{seen[1]:g}" if seen else "lower=0,upper=100"
    sizes = " x ".join(f"{size:g}" for size in spacing)
    return f"mode=volumes,{window}" + (f", with voxels of {sizes} mm" if sizes else "")


def class_names_differ(own: list[str], dataset: Dataset) -> tuple[str, ...]:
    """The sentence about classes, background left out, that have other names in the data."""
    given = list(dataset.class_names[1:])
    if [name.casefold() for name in own] == [name.casefold() for name in given]:
        return ()
    return (f"its classes are {', '.join(own)}, in this order; the data's are {', '.join(given)}",)
