"""What the engine made of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
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
        precisions: of each case the copies that its gradients came from (``bf16 folded``); "" where
            it asked for none. [] of an attack that is none.
        checks: of each case how they compare with those of fp32; "" of fp32.
    """

    images: Tensor
    forwards: list[int]
    backwards: list[int]
    zeros: list[int]
    displacement: Tensor | None = None
    late_gain: list[float] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    precisions: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)

    def with_cases(self, places: Sequence[int], other: Outcome) -> Outcome:
        """With some cases, in that order, as another outcome has them."""
        index = torch.tensor(places, device=self.images.device)
        changes: dict[str, Any] = {}
        for name in (one.name for one in fields(self)):
            own, new = getattr(self, name), getattr(other, name)
            if isinstance(own, Tensor):
                changes[name] = own.index_copy(0, index, new)
            elif own:
                changed = dict(enumerate(own)) | dict(zip(places, new, strict=True))
                changes[name] = [changed[place] for place in range(len(own))]
        return replace(self, **changes)
