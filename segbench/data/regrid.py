"""The grid that a volume is brought to: a square or cube, or a stated spacing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segbench.data.resize import MAX_SIDE, check_size
from segbench.errors import UserError

ScoreOn = Literal["resampled", "original"]
_SPACING = re.compile(r"\d+(\.\d+)?(x\d+(\.\d+)?){0,2}")


@dataclass(frozen=True)
class Regrid:
    """What becomes of a volume's own grid.

    Attributes:
        size: side of the square or cube that every case is resized to; 0 for none.
        spacing: mm along the canonical axes that every case is resampled to, one for all axes;
            () for none.
        score_on: whether cases are what was resampled, or stay on their own grid, the network alone
            being shown the resampled image, and its logits resampled back.
    """

    size: int = 0
    spacing: tuple[float, ...] = ()
    score_on: ScoreOn = "resampled"

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.size and self.spacing:
            raise UserError("size= and spacing= say the same thing twice; leave one out")
        if self.score_on == "original" and not self.spacing:
            raise UserError(
                "score_on=original needs the spacing that networks are shown (spacing=)"
            )

    def case_grid(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """The grid that a case of that grid is attacked and scored on."""
        if self.size:
            return (self.size,) * len(shape)
        return tuple(shape) if self.score_on == "original" else self.network_grid(shape, spacing)

    def network_grid(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """The grid that a network is shown.

        Raises:
            UserError: there is another number of axes, or a side would be beyond all measure.
        """
        if not self.spacing:
            return tuple(shape)
        wanted = self.spacing * len(shape) if len(self.spacing) == 1 else self.spacing
        if len(wanted) != len(shape):
            raise UserError(
                f"spacing={'x'.join(f'{mm:g}' for mm in self.spacing)} is for {len(wanted)} axes; "
                f"these cases have {len(shape)}"
            )
        sides = [
            max(1, round(side * own / mm))
            for side, own, mm in zip(shape, spacing, wanted, strict=True)
        ]
        if max(sides) > MAX_SIDE:
            raise UserError(f"at this spacing a side would be {max(sides)}, over {MAX_SIDE}")
        return tuple(sides)

    @property
    def rule(self) -> str:
        """In words, to follow "every case is"."""
        if self.size:
            return (
                f"resized to sides of {self.size}, images linearly with anti-aliasing and labels "
                "to the nearest voxel,"
            )
        if not self.spacing:
            return "kept on its own grid"
        spacing = " x ".join(f"{mm:g}" for mm in self.spacing)
        if self.score_on == "original":
            return (
                f"kept on its own grid, networks being shown it resampled to {spacing} mm, and "
                "their logits resampled back,"
            )
        return f"resampled to {spacing} mm, images linearly and labels to the nearest voxel,"


OWN_GRID = Regrid()


def parse_spacing(text: str) -> tuple[float, ...]:
    """``"1x1x1"`` or ``"0.5"``; "" to ().

    Raises:
        UserError: no lengths above 0.
    """
    if not text:
        return ()
    found = tuple(map(float, text.split("x"))) if _SPACING.fullmatch(text) else ()
    if not found or not all(0 < mm < math.inf for mm in found):
        raise UserError(
            f"spacing={text!r} is no spacing; expected millimetres such as 1x1x2 or 0.5"
        )
    return found
