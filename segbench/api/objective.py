"""What an attack is up against: its budget, its noise, its goal, and what it may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

SEARCH, SUBSTITUTE = "search", "substitute"
"""What a suite calls its members that ask for no gradient."""

WITHOUT_GRADIENTS = (SEARCH, SUBSTITUTE)
"""Where one of these is the best, gradients lead astray."""

BudgetKind = Literal["linf", "l2", "l1", "severity", "area", "min-norm", "certified", "none"]


@dataclass(frozen=True)
class Budget:
    """How far an attack may go: the kind of limit and its exact value.

    ``linf``, ``l2`` and ``l1`` are norms of the change of an image in [0, 1]; ``severity`` is 1 to
    5; ``area`` a share of the pixels; ``min-norm`` the Jaccard to fall below; ``none`` is 0.
    ``certified`` is no attack's: the L2 norm of a change that provably leaves what is certified.
    """

    kind: BudgetKind
    value: Fraction

    @property
    def eps(self) -> float:
        """The value as a float."""
        return float(self.value)


class Noise(Protocol):
    """Random numbers as a pure function of (seed, the case's content, draw).

    Never of the batch, the order, the attack or eps: a case meets the same start at every eps.
    """

    def uniform(self, draw: int, shape: Sequence[int]) -> Tensor:
        """float32 (B, *shape), uniform in [0, 1), on the images' device."""
        ...

    def normal(self, draw: int, shape: Sequence[int]) -> Tensor:
        """float32 (B, *shape), standard normal, on the images' device."""
        ...

    def select(self, index: Tensor) -> Noise:
        """The noise of the cases at ``index`` (int64, one axis)."""
        ...


@dataclass(frozen=True, eq=False)
class Goal:
    """What the attack is after: away from ``labels``, or towards them if ``targeted``.

    Attributes:
        labels: int64 (B, *spatial), what the loss is computed against.
        truth: int64 (B, *spatial), what is scored.
        ignore_index: label value that counts neither in the loss nor in the scores; the image is
            changed there as elsewhere, but where ``Case.valid`` is False.
        weights: (B, N, *spatial), N numbers for each label; only where the attack's State is a
            :class:`WeightedState`.
        structures: whether the labels are (B, S, *spatial), 0 or 1 for each of S overlapping
            structures, and not one of K classes for each pixel; the engine knows.
        start: logits (B, K, *spatial), the network's first answer in this run of a step attack;
            None at that first question.
        layer: the layer that a loss looks into, where the attack is one that ``SeesFeatures``.
        features: (B, F, *places), what that layer makes of the images that the loss is asked about.
        clean_features: the same of the clean images.
    """

    labels: Tensor
    truth: Tensor
    targeted: bool = False
    ignore_index: int | None = None
    weights: Tensor | None = None
    structures: bool = False
    start: Tensor | None = None
    layer: str = ""
    features: Tensor | None = None
    clean_features: Tensor | None = None


Loss = Callable[["Tensor", Goal], "Tensor"]
"""(logits (B, K, *spatial), goal) -> loss per case (B,)."""


class Objective(Protocol):
    """What an attack may ask of the network; each answer is counted.

    Attributes:
        region: bool (B, 1, *spatial), the pixels that may change; None for all. Whatever an attack
            makes of the others, the network sees the clean ones, and they are what is scored: it
            matters to an attack that measures its own images.
    """

    @property
    def region(self) -> Tensor | None:
        """See above."""
        ...

    def value_and_grad(self, images: Tensor, loss: Loss, goal: Goal) -> Feedback:
        """Loss per case, its gradient by the images (B, C, *spatial) in [0, 1], and the logits.

        Loss and gradient are signed so that an attack always ascends: for a targeted goal they
        are negated.
        """
        ...

    def scores(self, images: Tensor) -> Tensor:
        """Logits (B, K, *spatial) in fp32."""
        ...

    def labels(self, images: Tensor) -> Tensor:
        """Predicted labels int64 (B, *spatial)."""
        ...

    def remaining(self, images: Tensor, goal: Goal) -> Tensor:
        """What an attack has left to do (B,), in [0, 1]; lower is stronger, 0 the worst case.

        The case's Jaccard, or 1 minus the agreement with the target (see attacks/README.md); by
        the original network in fp32. By this measure the better of two images is chosen.
        """
        ...

    def select(self, index: Tensor) -> Objective:
        """The same for some of the cases (int64, one axis), to be asked about those alone.

        What is asked is counted as theirs, and a case with a NaN answer is named.
        """
        ...

    def credit(self, members: Sequence[str], late_gain: Sequence[float] | None = None) -> None:
        """Say which member of a suite found each case's image (B); rows record it as ``member``.

        ``late_gain``: how far the case's lowest score fell in the last half of that member's steps
        within the budget, NaN of a member that takes none; rows record it, and reports mark a
        network on which nothing was gained while much is left, or a member of
        ``WITHOUT_GRADIENTS`` was the best.
        """
        ...


@dataclass(frozen=True, eq=False)
class Feedback:
    """One answer of the network: loss (B,), gradient (B, C, *spatial), logits (B, K, *spatial).

    A step attack sees what it ``needs`` and no more. For ``scores`` the gradient is 0. For
    ``labels`` there are no logits either, and the loss is how far it has come, in [0, 1]: 1 minus
    ``Objective.remaining``. Both are answers of the original network in fp32.
    """

    loss: Tensor
    gradient: Tensor
    logits: Tensor
