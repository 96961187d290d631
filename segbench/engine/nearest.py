"""The nearest image at which a case has fallen: what a minimum-norm attack is after."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segbench.engine.ball import flat_norm, per_case

_HALVINGS = 10  # of the last line; what is left is a thousandth of the distance


class Nearest:
    """Of each case of a batch, the image nearest to the clean one whose score is below a threshold.

    Attributes:
        images: (B, C, *spatial); the clean image where none has been found.
        distance: (B,); infinite where none has been found.
    """

    def __init__(
        self,
        clean: Tensor,
        threshold: float,
        norm: str,
        score: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """``score(images, cases)`` (B,) is by the original network in fp32; it alone decides."""
        self.clean, self.threshold, self.score = clean, threshold, score
        self.order = {"linf": torch.inf, "l2": 2}[norm]
        self.images = clean.clone()
        self.distance = torch.full_like(clean.flatten(1)[:, 0], torch.inf)

    @property
    def found(self) -> Tensor:
        """Which cases have fallen (B,)."""
        return self.distance.isfinite()

    def update(self, cases: Tensor, images: Tensor, suggested: Tensor) -> None:
        """Images of some of the cases; only those that seem to fall, and are nearer, are scored."""
        distance = flat_norm(images - self.clean[cases], self.order)
        hopeful = (suggested < self.threshold) & (distance < self.distance[cases])
        some = hopeful.nonzero()[:, 0]
        if len(some):
            some = some[self.score(images[some], cases[some]) < self.threshold]
        self.images[cases[some]] = images[some]
        self.distance[cases[some]] = distance[some]

    def narrowed(self, cases: Tensor) -> Tensor:
        """The images of some cases, once the line to the clean one is searched for nearer ones."""
        moved = cases[self.found[cases] & (self.distance[cases] > 0)]
        if len(moved):
            self._halve(moved)
        return self.images[cases]

    def or_nearer(self, other: Nearest) -> Nearest:
        """Of each case the nearer of two records of the same batch; this one's among equals."""
        better = other.distance < self.distance
        self.images = torch.where(per_case(better, self.images), other.images, self.images)
        self.distance = torch.minimum(self.distance, other.distance)
        return self

    def _halve(self, cases: Tensor) -> None:
        clean, reached = self.clean[cases], self.images[cases]
        low = torch.zeros_like(self.distance[cases])
        high = torch.ones_like(low)  # here each case has fallen
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            images = (clean + per_case(middle, clean) * (reached - clean)).clamp(0, 1)
            fell = self.score(images, cases) < self.threshold
            self.images[cases[fell]] = images[fell]
            low, high = torch.where(fell, low, middle), torch.where(fell, middle, high)
        self.distance[cases] *= high
