"""PAdam: projected Adam (Halmosi, Mohos & Jelasity, ECCV 2024, arXiv 2407.09150)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Labels, Plan, State
from segbench.engine.ball import project
from segbench.errors import UserError
from segbench_attacks.adam import next_mean, next_root, unbiased
from segbench_attacks.goals import check_goal
from segbench_attacks.losses import cosine_distance, cross_entropy, margin
from segbench_attacks.pixels import is_one_sigmoid
from segbench_attacks.steps import random_point


@dataclass(frozen=True, eq=False)
class Moments(State):
    """An iterate and the gradients before it.

    Attributes:
        mean: running mean of gradients (B, C, *spatial).
        root: root of the running mean of their squares.
        peak: the largest root of each value so far (AMSGrad).
        taken: steps so far.
    """

    mean: Tensor
    root: Tensor
    peak: Tensor
    taken: int


@dataclass(frozen=True)
class PAdam:
    """Steps of Adam in its AMSGrad form, clamped to ball and box after each; the last one counts.

    A value moves by at most about ``step_size``, less where its gradient turns round or has been
    larger before, so that the steps shrink by themselves. (Reddi, Kale & Kumar, ICLR 2018, arXiv
    1904.09237, for AMSGrad.)

    Attributes:
        steps: gradient steps per restart.
        restarts: independent starts; the best per case is chosen by the scored metric.
        step_size: Adam's rate, as a share of the pixel range, whatever eps is.
        loss_: ``ce`` is cross-entropy; ``cosine`` is 1 minus the cosine between a pixel's logits
            and its one-hot label. On a network with one sigmoid, where that cosine has no
            gradient, the margin takes its place.
        random_start: uniform in the ball; False starts from the clean image.
        labels: whether the loss sees the truth or the network's own clean prediction.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
    """

    steps: int = 200
    restarts: int = 1
    step_size: float = 2 / 255
    loss_: Literal["ce", "cosine"] = "ce"
    random_start: bool = True
    labels: Labels = "truth"
    target: str | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"
    budget_kind: ClassVar[BudgetKind] = "linf"

    def __post_init__(self) -> None:
        check_goal(self.target, self.labels)
        for name in ("steps", "restarts", "step_size"):
            if not getattr(self, name) > 0:
                raise UserError(f"padam: {name}={getattr(self, name)} must be positive")

    def plan(self, budget: Budget) -> Plan:
        """A case at the worst possible score is done."""
        return Plan(self.steps, self.restarts, stop_early=True, labels=self.labels)

    def init(self, context: Context) -> State:
        """A random point of the ball, or the clean image; no gradient yet."""
        start = random_point(context, "linf") if self.random_start else context.images
        start = project(start, context.images, context.budget)
        nothing = torch.zeros_like(start)
        return Moments(start, nothing, nothing, nothing, taken=0)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The chosen loss per case (B,)."""
        if self.loss_ == "ce":
            return cross_entropy(logits, goal)
        return (margin if is_one_sigmoid(logits) else cosine_distance)(logits, goal)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One step along the mean gradient over its largest root; the engine projects."""
        assert isinstance(state, Moments)
        mean = next_mean(state.mean, feedback.gradient)
        root = next_root(state.root, feedback.gradient)
        peak, taken = torch.maximum(state.peak, root), state.taken + 1
        along, scale = unbiased(mean, peak, taken)
        return Moments(state.images + self.step_size * along / scale, mean, root, peak, taken)
