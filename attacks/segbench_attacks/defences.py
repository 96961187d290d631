"""Training that withstands attacks: on images that were attacked, or noised, as it goes.

The attack within a training is asked in evaluation mode (see ``api.Trainee``), but for that of
``free``, which climbs by the gradients that the weights learn by. The weights learn in training
mode, so that a batch norm's statistics are those of the images learnt from: in one pass a batch,
clean and attacked together; for ``trades`` in three, once attacked and twice clean; for ``free`` in
one a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Goal, Loss, Trainee
from segbench.errors import UserError
from segbench_attacks.losses import balanced_cross_entropy, cross_entropy

ProgressLoss = Callable[..., Tensor]
"""(logits, goal, progress from 0 to 1) -> the loss of each case (B,)."""

_REACH = 2.0  # a climb's steps together, in eps, so that it crosses the ball
_TRADES_START = 1e-3  # standard deviation of the first step away from where the gap is flat


def _check(eps: float, steps: int, clean_share: float = 0.0) -> None:
    if not 0 < eps <= 1:
        raise UserError(f"eps={eps:g} must lie above 0, up to 1")
    if steps < 1:
        raise UserError(f"steps={steps} must be at least 1")
    if not 0 <= clean_share < 1:
        raise UserError(f"clean_share={clean_share:g} must lie from 0 to below 1")


@dataclass(frozen=True)
class Gaussian:
    """Images with normal noise, for networks that are to be certified by smoothing.

    Cohen, Rosenfeld & Kolter, ICML 2019, arXiv 1902.02918. The noise may leave the pixel range, as
    that of a certificate does.

    Attributes:
        sigma: its standard deviation, in shares of the pixel range.
        clean_share: of each batch, the share that stays as it is.
    """

    sigma: float = 0.25
    clean_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 1:
            raise UserError(f"sigma={self.sigma:g} must lie above 0, up to 1")
        _check(1, 1, self.clean_share)

    def losses(
        self, trainee: Trainee, images: Tensor, labels: Tensor, draws: torch.Generator
    ) -> Iterator[Tensor]:
        """One, of the noised images."""
        noise = torch.randn(images.shape, generator=draws).to(images)
        noised = images + self.sigma * noise
        yield trainee.loss(_mixed(images, noised, self.clean_share, draws), labels)


@dataclass(frozen=True)
class PGDTraining:
    """Images attacked by PGD in L-infinity (Madry et al., ICLR 2018, arXiv 1706.06083).

    From a random start, by steps of twice eps over their number.

    Attributes:
        eps: the budget, as a share of the pixel range.
        steps: of the attack; a training costs one more gradient than these.
        clean_share: of each batch, the share that stays clean. On images of which some stay clean
            networks were found to be hardly robust (Halmosi et al., ECCV 2024).
    """

    eps: float = 4 / 255
    steps: int = 5
    clean_share: float = 0.0

    def __post_init__(self) -> None:
        _check(self.eps, self.steps, self.clean_share)

    def losses(
        self, trainee: Trainee, images: Tensor, labels: Tensor, draws: torch.Generator
    ) -> Iterator[Tensor]:
        """One, of the attacked images."""
        start = _uniform(images, self.eps, draws)
        goal = trainee.goal(labels)
        attacked = _climbed(trainee, images, start, goal, self.eps, self.steps, self._loss)
        yield trainee.loss(_mixed(images, attacked, self.clean_share, draws), labels)

    def _loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        return cross_entropy(logits, goal)


@dataclass(frozen=True)
class PIRTraining(PGDTraining):
    """The same, begun from another checkpoint (Croce, Singh & Hein, ECCV 2024, arXiv 2306.12941).

    The paper begins from a backbone that is robust on ImageNet; here it is whatever --start-from
    names, a robust network or a plain one.
    """

    needs_start: ClassVar[bool] = True


@dataclass(frozen=True)
class SegPGDTraining(PGDTraining):
    """Images attacked by SegPGD (Gu et al., ECCV 2022, arXiv 2207.12391), half of a batch.

    Attributes:
        eps: the budget, as a share of the pixel range.
        steps: of the attack, 3 or 7 in the paper.
        clean_share: of each batch, the share that stays clean.
    """

    steps: int = 3
    clean_share: float = 0.5

    def _loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        return balanced_cross_entropy(logits, goal, progress)


@dataclass(frozen=True)
class TRADES:
    """The clean loss, and beta times how far an attack moves the answer (Zhang et al., ICML 2019).

    arXiv 1901.08573. The gap is the Kullback-Leibler divergence of the answer to the attacked image
    from that to the clean one, the mean over pixels; the attack climbs it.

    Attributes:
        eps: the budget, as a share of the pixel range.
        steps: of the attack.
        beta: what robustness is worth in clean loss.
    """

    eps: float = 4 / 255
    steps: int = 5
    beta: float = 6.0

    def __post_init__(self) -> None:
        _check(self.eps, self.steps)
        if self.beta < 0:
            raise UserError(f"beta={self.beta:g} must not be negative")

    def losses(
        self, trainee: Trainee, images: Tensor, labels: Tensor, draws: torch.Generator
    ) -> Iterator[Tensor]:
        """One: the clean loss and the gap."""
        goal, seen = trainee.goal(labels), list[Tensor]()

        def calm(logits: Tensor, goal: Goal) -> Tensor:
            seen.append(logits.detach())
            return logits.flatten(1).sum(1)

        trainee.ascent(images, calm, goal)  # the clean answer in evaluation mode

        def gap(logits: Tensor, goal: Goal, progress: float) -> Tensor:
            return _divergence(logits, seen[0]).flatten(1).sum(1)

        start = (_TRADES_START * torch.randn(images.shape, generator=draws)).to(images)
        attacked = _climbed(trainee, images, start, goal, self.eps, self.steps, gap)
        away = _divergence(trainee.logits(attacked), trainee.logits(images))
        counts = torch.ne(labels, -1 if goal.ignore_index is None else goal.ignore_index)
        mean = (away * counts).sum() / counts.sum().clamp(min=1)
        yield trainee.loss(images, labels) + self.beta * mean


@dataclass(frozen=True)
class Free:
    """Every batch several times, a step of weights and of the attack by one gradient.

    Shafahi et al., NeurIPS 2019, arXiv 1904.12843. It costs what a plain training of so many times
    the epochs does: give --epochs a share of them. The perturbation begins anew with each batch, so
    that a training resumes exactly.

    Attributes:
        eps: the budget, as a share of the pixel range.
        replays: of each batch.
    """

    eps: float = 4 / 255
    replays: int = 4

    def __post_init__(self) -> None:
        _check(self.eps, 1)
        if self.replays < 1:
            raise UserError(f"replays={self.replays} must be at least 1")

    def losses(
        self, trainee: Trainee, images: Tensor, labels: Tensor, draws: torch.Generator
    ) -> Iterator[Tensor]:
        """As many as there are replays."""
        moved = _uniform(images, self.eps, draws)
        for _ in range(self.replays):
            leaf = (images + moved).clamp(0, 1).detach().requires_grad_()
            yield trainee.loss(leaf, labels)
            assert leaf.grad is not None
            moved = (moved + self.eps * leaf.grad.sign()).clamp(-self.eps, self.eps)


def _uniform(images: Tensor, eps: float, draws: torch.Generator) -> Tensor:
    """A random perturbation within the ball."""
    return ((2 * torch.rand(images.shape, generator=draws) - 1) * eps).to(images)


def _climbed(
    trainee: Trainee,
    images: Tensor,
    moved: Tensor,
    goal: Goal,
    eps: float,
    steps: int,
    loss: ProgressLoss,
) -> Tensor:
    """Images at the end of so many signed steps, within ball and box."""
    for step in range(steps):
        now: Loss = partial(loss, progress=step / steps)
        gradient = trainee.ascent((images + moved).clamp(0, 1), now, goal)
        moved = (moved + _REACH * eps / steps * gradient.sign()).clamp(-eps, eps)
    return (images + moved).clamp(0, 1)


def _mixed(clean: Tensor, changed: Tensor, clean_share: float, draws: torch.Generator) -> Tensor:
    """The first of a shuffled batch as they are, the rest changed.

    What the share leaves of a case is drawn, so that it holds in the mean for batches of one too.
    """
    kept = int(clean_share * len(clean) + float(torch.rand((), generator=draws)))
    return torch.cat([clean[:kept], changed[kept:]])


def _divergence(logits: Tensor, of: Tensor) -> Tensor:
    """KL (B, *spatial) of one answer from another, both (B, K, *spatial)."""
    return F.kl_div(
        logits.log_softmax(1), of.log_softmax(1), log_target=True, reduction="none"
    ).sum(1)
