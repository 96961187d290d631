"""PGD: projected gradient ascent from random starts (Madry et al., ICLR 2018, arXiv 1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Labels, Plan, State
from segbench.engine.ball import flat_norm, per_case
from segbench.errors import UserError
from segbench_attacks.losses import LossName, named_loss


@dataclass(frozen=True)
class PGD:
    """Steps of a fixed share of eps, from a uniform start in the ball, the best restart per case.

    Attributes:
        steps: gradient steps per restart.
        restarts: independent starts; the best per case is chosen by the scored metric.
        rel_step: step size as a share of eps. It matters more than it looks: on JSRT at 4/255
            PGD-40 is far weaker with 2.5/40 than with the default of 1/4.
        norm: ``linf`` takes sign steps; ``l2`` steps along the normalised gradient.
        loss_: what is ascended (``loss=dice`` in a spec); see ``losses.py``.
        random_start: False starts from the clean image.
        labels: whether the loss sees the truth or the network's own clean prediction.
    """

    steps: int = 40
    restarts: int = 1
    rel_step: float = 0.25
    norm: Literal["linf", "l2"] = "linf"
    loss_: LossName = "ce"
    random_start: bool = True
    labels: Labels = "truth"

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "rel_step"):
            if not getattr(self, name) > 0:
                raise UserError(f"pgd: {name}={getattr(self, name)} must be positive")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def plan(self, budget: Budget) -> Plan:
        """A case at the worst possible score is done."""
        return Plan(self.steps, self.restarts, stop_early=True, labels=self.labels)

    def init(self, context: Context) -> State:
        """A point of the ball: uniform in the cube, or in the volume of the L2 ball."""
        images, eps, draw = context.images, context.budget.eps, context.restart
        if not self.random_start:
            return State(images)
        shape = images.shape[1:]
        if self.norm == "linf":
            return State(images + eps * (2 * context.noise.uniform(draw, shape) - 1))
        direction = context.noise.normal(draw, shape)
        # The draws of radii follow those of directions, which no restart count reaches.
        radius = context.noise.uniform(draw + 2**20, ()) ** (1 / images[0].numel())
        length = eps * radius / flat_norm(direction, 2)
        return State(images + per_case(length, images) * direction)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The chosen loss per case (B,)."""
        return named_loss(self.loss_, logits, goal, progress)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One step of ``rel_step * eps``; the engine projects."""
        length = self.rel_step * context.budget.eps
        gradient = feedback.gradient
        if self.norm == "linf":
            return State(state.images + length * gradient.sign())
        # Scaled by its peak, or the squares of a faint gradient vanish in fp32; a zero gradient
        # has no direction and must not become NaN.
        direction = gradient / per_case(_positive(flat_norm(gradient, torch.inf)), gradient)
        size = _positive(flat_norm(direction, 2))
        return State(state.images + direction * per_case(length / size, gradient))


def _positive(norms: Tensor) -> Tensor:
    return norms.clamp_min(torch.finfo(norms.dtype).tiny)
