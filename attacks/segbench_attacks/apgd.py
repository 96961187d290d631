"""APGD: PGD that sets its own step size (Croce & Hein, ICML 2020, arXiv 2003.01690).

In L1 the variant of Croce & Hein, ICML 2021, arXiv 2103.01208; see ``apgd_l1.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Labels, Plan, State
from segbench.engine.ball import project
from segbench.errors import UserError
from segbench_attacks.apgd_l1 import SparseState, begin_sparse, move_sparse, thinned
from segbench_attacks.apgd_search import APGDState, begin, halved, learn, move
from segbench_attacks.goals import check_goal
from segbench_attacks.losses import LossName, named_loss, tracked_loss
from segbench_attacks.steps import Norm, random_point


@dataclass(frozen=True)
class APGD:
    """Steps from 2 eps on, with momentum; halved per case, back at the best, when progress stalls.

    At checkpoints (22 % of the steps, then intervals shorter by 3 % down to 6 %, all rounded down
    as the public code does) the step is halved where fewer than 75 % of the steps raised the loss,
    or where neither step nor best loss changed since the last one. The loss that is watched is
    never a masked one (cross-entropy stands in): that would rewind to the less fooled image. Of
    all iterates the one with the worst score counts; of equals, the one with the highest loss.

    Attributes:
        steps: gradient steps per restart.
        restarts: independent starts; the best per case is chosen by the scored metric.
        norm: ``linf``, ``l2``, or ``l1``, where a step moves few values, and fewer as the best
            image grows sparser.
        loss_: what is ascended (``loss=dice`` in a spec); see ``losses.py``.
        random_start: uniform in the ball's volume; False starts from the clean image.
        labels: whether the loss sees the truth or the network's own clean prediction.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
    """

    steps: int = 40
    restarts: int = 1
    norm: Norm = "linf"
    loss_: LossName = "ce"
    random_start: bool = True
    labels: Labels = "truth"
    target: str | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_goal(self.target, self.labels)
        for name in ("steps", "restarts"):
            if not getattr(self, name) > 0:
                raise UserError(f"apgd: {name}={getattr(self, name)} must be positive")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def plan(self, budget: Budget) -> Plan:
        """The worst iterate counts, and a case at the worst possible score is done.

        An attack that may not know the truth may not choose by it: there the loss alone decides.
        """
        keep: Literal["last", "best"] = "best" if self.labels == "truth" else "last"
        return Plan(self.steps, self.restarts, stop_early=True, labels=self.labels, keep=keep)

    def init(self, context: Context) -> State:
        """A random point of the ball, or the clean image; nothing is known yet."""
        start = random_point(context, self.norm) if self.random_start else context.images
        start = project(start, context.images, context.budget)
        make = begin_sparse if self.norm == "l1" else begin
        return make(start, context.budget, self.steps)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The chosen loss per case (B,)."""
        return named_loss(self.loss_, logits, goal, progress)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """Learn from the answer, perhaps rewind, then move; the last answer is the best by loss."""
        assert isinstance(state, APGDState)
        loss = tracked_loss(self.loss_, feedback.logits, context.goal)
        if self.norm == "l1":
            assert isinstance(state, SparseState)
            sparse, gradient = learn(state, feedback, loss, partial(thinned, context=context))
            return self._best_at_last(sparse) or move_sparse(context, sparse, gradient)
        state, gradient = learn(state, feedback, loss, partial(halved, steps=self.steps))
        return self._best_at_last(state) or move(context, state, gradient, self.norm)

    def _best_at_last(self, state: APGDState) -> State | None:
        """The best by loss, at the last of several steps."""
        if state.taken < self.steps - 1 or self.steps == 1:
            return None
        return replace(state, images=state.best)
