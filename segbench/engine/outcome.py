"""What the engine made of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an attack made of a batch: images (B, C, *spatial), and its cost per case.

    Attributes:
        zeros: of the gradients, how many were zero in every pixel; of a case that has no pixel to
            change none counts.
        displacement: (B, dims, *spatial) in pixels, by which the images and their truth were moved;
            None where nothing moved.
        members: of a suite, which of its members found each case's image; of all others [].
        late_gain: by how much the lowest score of each case fell in the last half of its steps, in
            the run that gained most; NaN of fewer than 16 steps, or where it was done before. Of a
            whole attack what it said of the climb that found the image, NaN where it said nothing.
    """

    images: Tensor
    forwards: list[int]
    backwards: list[int]
    zeros: list[int]
    displacement: Tensor | None = None
    late_gain: list[float] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
