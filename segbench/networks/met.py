"""A case as a network of volumes must know it: how its voxels lie in the file, in what units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from segbench.api import Case, Dataset
    from segbench.data.window import Window


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
        """(C, *spatial) in [0, 1] -> the same in the file's units; its zeros are zeros again.

        Networks leave out what is 0, and rounding would leave a millionth of it here and there.
        """
        column = (-1, *[1] * (image.dim() - 1))
        low, span, zero = (
            image.new_tensor(n).reshape(column) for n in (self.low, self.range, self._zero)
        )
        values = low + image * span
        return values - values.detach().where(image == zero, 0)

    @property
    def _zero(self) -> list[float]:
        """What the file's 0 became, per channel; outside [0, 1] where it was clipped."""
        zeros = [-low / span for low, span in zip(self.low, self.range, strict=True)]
        return [float(np.float32(zero)) for zero in zeros]  # as images are

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
    window: Window | None = getattr(dataset, "clipping", None)
    if window is None or window.clips_nothing:
        return ()
    needed = "all values of the files" if seen is None else f"{seen[0]:g} to {seen[1]:g}"
    if window.ends is None:
        return (
            f"the data are clipped at their percentiles {window.lower:g} and {window.upper:g}; "
            f"{who} needs {needed}: give lower=0,upper=100 or a window",
        )
    low, high = window.ends
    if seen is not None and low <= seen[0] and seen[1] <= high:
        return ()
    return (f"the data are clipped to the window {low:g}..{high:g}; {who} needs {needed}",)


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
