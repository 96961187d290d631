"""Defences: what is done to a batch of training, so that the network withstands attacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from segbench.api.objective import Goal, Loss


class Trainee(Protocol):
    """A network in training, as a defence asks it. Images are (B, C, *spatial) in [0, 1]."""

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss that the network is trained by without a defence: a scalar, with gradient.

        In training mode: of a batch norm these images are the statistics.
        """
        ...

    def logits(self, images: Tensor) -> Tensor:
        """The logits (B, K, *spatial) in training mode, with gradient."""
        ...

    def goal(self, labels: Tensor) -> Goal:
        """What an attack on labels (B, *spatial) ascends away from."""
        ...

    def ascent(self, images: Tensor, loss: Loss, goal: Goal) -> Tensor:
        """The gradient by the images of a loss (B,) that an attack ascends.

        In evaluation mode: it is the network as it will be attacked, no case sees another, and
        asking moves none of its statistics.
        """
        ...


@runtime_checkable
class Defence(Protocol):
    """How a batch is learnt from; a frozen dataclass, whose fields are recorded on the card."""

    def losses(
        self, trainee: Trainee, images: Tensor, labels: Tensor, draws: torch.Generator
    ) -> Iterator[Tensor]:
        """The losses to descend, one update of the weights each; most defences have one.

        Whatever is drawn comes from ``draws``, on the CPU, so that a training that was killed
        resumes exactly. The generator goes on after the update; gradients by the images that the
        loss was of are there by then.
        """
        ...
