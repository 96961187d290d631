"""A network that is shown every case at one spacing, whatever grid the case is attacked on.

The image is resampled as ``data/resize.py`` does it, linearly with an anti-aliasing triangle, axis
by axis, and so are the logits on their way back. Both are matrices, so the gradient is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from segbench.data.regrid import Regrid
from segbench.data.resize import resize_image
from segbench.engine.meeting import tell
from segbench.errors import UserError

if TYPE_CHECKING:
    from segbench.api import Case


class OnSpacing(nn.Module):
    """Images (B, C, *spatial) of the case that was met -> logits (B, K, *spatial) on its grid."""

    def __init__(self, inner: nn.Module, regrid: Regrid) -> None:
        super().__init__()
        self.inner, self.regrid = inner, regrid
        self._grid: tuple[int, ...] | None = None

    def meet(self, case: Case) -> None:
        """The spacing of the next case.

        Raises:
            UserError: it has none.
        """
        if case.spacing is None:
            raise UserError(f"case {case.case_id} has no spacing, and spacing= wants one")
        self._grid = self.regrid.network_grid(case.image.shape[1:], case.spacing)
        tell(self.inner, case)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        if self._grid is None:
            raise UserError("a network at a spacing must be told of a case before it is asked")
        logits: Tensor = self.inner(resampled(images, self._grid))
        return resampled(logits.float(), images.shape[2:])


def resampled(values: Tensor, grid: Sequence[int]) -> Tensor:
    """(B, C, *spatial) on another grid, linearly, anti-aliased where it is coarser."""
    for axis, length in enumerate(grid, start=2):
        if values.shape[axis] != length:
            matrix = _matrix(values.shape[axis], length).to(values)
            values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return values


@lru_cache(maxsize=32)
def _matrix(old: int, new: int) -> Tensor:
    """(new, old): what each new place takes of the old ones."""
    unit = np.eye(old, dtype=np.float32)[None]
    return torch.from_numpy(resize_image(unit, (new, old))[0])
