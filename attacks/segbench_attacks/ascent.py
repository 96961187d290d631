"""What PGD, SegPGD and CosPGD share: steps of a fixed share of eps from a start in the ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from segbench.api import Budget, BudgetKind, Context, Feedback, Labels, Plan, State
from segbench.errors import UserError
from segbench_attacks.goals import check_goal
from segbench_attacks.steps import Norm, ascend, random_point


@dataclass(frozen=True)
class ProjectedAscent:
    """Projected gradient ascent; a subclass says what it ascends.

    Attributes:
        steps: gradient steps per restart.
        restarts: independent starts; the best per case is chosen by the scored metric.
        rel_step: step size as a share of eps. It matters more than it looks: on JSRT at 4/255
            PGD-40 is far weaker with 2.5/40 than with the default of 1/4.
        norm: ``linf`` takes sign steps, ``l2`` steps along the normalised gradient, ``l1`` moves
            the hundredth of the pixels with the largest gradients.
        random_start: False starts from the clean image.
        labels: whether the loss sees the truth or the network's own clean prediction.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
    """

    steps: int = 40
    restarts: int = 1
    rel_step: float = 0.25
    norm: Norm = "linf"
    random_start: bool = True
    labels: Labels = "truth"
    target: str | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_goal(self.target, self.labels)
        for name in ("steps", "restarts", "rel_step"):
            if not getattr(self, name) > 0:
                attack = type(self).__name__.lower()
                raise UserError(f"{attack}: {name}={getattr(self, name)} must be positive")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def plan(self, budget: Budget) -> Plan:
        """A case at the worst possible score is done."""
        return Plan(self.steps, self.restarts, stop_early=True, labels=self.labels)

    def init(self, context: Context) -> State:
        """A random point of the ball, or the clean image."""
        return State(random_point(context, self.norm) if self.random_start else context.images)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One step of ``rel_step * eps``; the engine projects."""
        length = self.rel_step * context.budget.eps
        return State(ascend(state.images, feedback.gradient, length, self.norm))
