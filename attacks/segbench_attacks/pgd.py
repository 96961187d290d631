"""PGD: projected gradient ascent from random starts (Madry et al., ICLR 2018, arXiv 1706.06083)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from segbench.api import Budget, Context, Feedback, Goal, Plan, State
from segbench.engine.ball import flat_norm, per_case, project
from segbench.errors import UserError
from segbench_attacks.ascent import ProjectedAscent
from segbench_attacks.losses import LossName, named_loss
from segbench_attacks.steps import ascend

MOMENTUM = 0.75  # what remains of the past at a step


@dataclass(frozen=True, eq=False)
class Moving(State):
    """An iterate, and how it came there.

    Attributes:
        point: where the last step ended (B, C, *spatial); Nesterov's iterate lies ahead of it.
        velocity: gradients gathered so far (B, C, *spatial).
        taken: steps so far.
    """

    point: Tensor
    velocity: Tensor
    taken: int = 0


@dataclass(frozen=True)
class PGD(ProjectedAscent):
    """Steps of a share of eps, from a uniform start in the ball, the best restart per case.

    ``pgd:steps=1,rel_step=1,random_start=false,norm=l2`` is the L2 form of FGSM.

    Attributes:
        loss_: what is ascended (``loss=dice`` in a spec); see ``losses.py``.
        schedule: ``constant`` takes steps of ``rel_step``; ``cosine`` takes steps that fall from
            ``first`` to ``last``, shares of eps too, along half a cosine. Each refuses the other's.
        momentum: ``heavy`` steps along the gradients so far, each over its mean size, the past
            decayed by 0.75; ``nesterov`` takes its gradient 0.75 of the last move ahead.
        keep: the ``last`` iterate counts, or the ``best`` by the scored metric.
    """

    loss_: LossName = "ce"
    schedule: Literal["constant", "cosine"] = "constant"
    first: float = 1.0
    last: float = 0.05
    momentum: Literal["none", "nesterov", "heavy"] = "none"
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_schedule()
        if self.keep == "best" and self.labels == "prediction":
            raise UserError("pgd: keep=best knows the truth; leave it out with labels=prediction")

    def _check_schedule(self) -> None:
        """Refuse lengths that are none, and those that the schedule would never look at."""
        attack = type(self).__name__.lower()
        for name in ("first", "last"):
            if not getattr(self, name) > 0:
                raise UserError(f"{attack}: {name}={getattr(self, name)} must be positive")
        for name in ("rel_step",) if self.schedule == "cosine" else ("first", "last"):
            if getattr(self, name) != getattr(type(self), name):
                uses = "first and last" if self.schedule == "cosine" else "rel_step"
                raise UserError(
                    f"{attack}: {name}={getattr(self, name)} is not used with "
                    f"schedule={self.schedule}, whose steps are set by {uses}"
                )
        if self.last > self.first:
            raise UserError(
                f"{attack}: last={self.last} is above first={self.first}; steps of "
                "schedule=cosine fall from first to last"
            )

    def plan(self, budget: Budget) -> Plan:
        """A case at the worst possible score is done."""
        return replace(super().plan(budget), keep=self.keep)

    def init(self, context: Context) -> State:
        """A random point of the ball, or the clean image, at rest."""
        start = super().init(context).images
        start = project(start, context.images, context.budget)
        return Moving(start, start, torch.zeros_like(start))

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The chosen loss per case (B,)."""
        return named_loss(self.loss_, logits, goal, progress)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One step from where the gradient was taken; the engine projects."""
        assert isinstance(state, Moving)
        velocity = feedback.gradient
        if self.momentum == "heavy":
            velocity = gathered(state.velocity, feedback.gradient)
        length = self._share(state.taken) * context.budget.eps
        point = self.moved(context, state.images, velocity, length)
        point, taken = project(point, context.images, context.budget), state.taken + 1
        ahead = point
        if self.momentum == "nesterov" and taken < self.steps:
            ahead = point + MOMENTUM * (point - state.point)
        return Moving(ahead, point, velocity, taken)

    def moved(self, context: Context, images: Tensor, direction: Tensor, length: float) -> Tensor:
        """``images`` a step of that length along ``direction``, all (B, C, *spatial)."""
        return ascend(images, direction, length, self.norm)

    def _share(self, taken: int) -> float:
        """The length of a step as a share of eps."""
        if self.schedule == "constant":
            return self.rel_step
        return cosine(taken / self.steps, self.first, self.last)


def cosine(progress: float, first: float, last: float) -> float:
    """From ``first`` at progress 0 to ``last`` at 1, along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def gathered(velocity: Tensor, gradient: Tensor) -> Tensor:
    """The decayed past and the gradient over its mean size per case, (B, C, *spatial)."""
    size = flat_norm(gradient, 1) / gradient[0].numel()
    fresh = gradient / per_case(size.clamp_min(torch.finfo(size.dtype).tiny), gradient)
    return MOMENTUM * velocity + fresh
