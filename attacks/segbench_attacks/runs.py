"""An attack by steps as a member of a suite: its own run, and what that found in the suite's ball.

What the engine does with it by itself, but that the suite decides what becomes of what is found,
and that a minimum-norm attack, whose iterates know no ball, is clipped to the suite's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from segbench.api import (
    Budget,
    Context,
    Feedback,
    Goal,
    MinimumNorm,
    Plan,
    State,
    WeightedState,
)
from segbench.engine.ball import flat_norm, per_case, project, scaled
from segbench.engine.subsets import select
from segbench_attacks.field import Field, Standing

LOOK_EVERY = 4  # steps, for cases that are done
_ROUNDING = 1e-6  # of a distance that is just within the ball


class BySteps(Protocol):
    """What is asked of an attack by steps; see ``segbench.api.StepAttack``."""

    def plan(self, budget: Budget) -> Plan: ...  # noqa: D102
    def init(self, context: Context) -> State: ...  # noqa: D102
    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor: ...  # noqa: D102
    def step(self, context: Context, state: State, feedback: Feedback) -> State: ...  # noqa: D102


def by_steps(field: Field, attack: BySteps, *, leaving: bool = False) -> Sequence[Tensor]:
    """What one restart of an attack proposes for each case, (B, C, *spatial) in the field's ball.

    The iterate there with the lowest score by its own logits, and the last one; of a minimum-norm
    attack also its result. ``leaving`` lets a case go that is at the worst score, or where a
    minimum-norm attack that is done with its first success has had it; by default all go on.
    """
    run = _Run(field, attack)
    for step in range(run.plan.steps):
        feedback = run.ask(step)
        if leaving and step % LOOK_EVERY == 0:
            feedback = run.let_go(feedback)
            if not len(run.cases):
                break
        run.move(feedback)
    run.last[run.cases] = run.state.images
    kept = [run.lowest.images, run.last]
    if run.has_threshold:
        kept.append(run.result.images)
    return [project(images, field.clean, field.budget) for images in kept]


class _Run:
    """One restart of an attack on the cases of a field.

    Attributes:
        cases: of the field, those that go on (int64, one axis); ``field`` and ``state`` are theirs.
        inside: which of them (B,) have their last iterate in the ball.
        here: how that iterate stands by its own logits.
        lowest: of all cases the iterate in the ball that stands worst for the network.
        result: what a minimum-norm attack is after: the nearest iterate that has fallen below its
            threshold; as long as there is none, the one that stands worst, wherever it lies.
        last: what the cases ended with that were let go.
    """

    def __init__(self, field: Field, attack: BySteps) -> None:
        self.field, self.attack = field, attack
        self.has_threshold = isinstance(attack, MinimumNorm)
        self.budget = attack.budgets[0] if isinstance(attack, MinimumNorm) else field.budget
        self.plan, self.state = attack.plan(self.budget), attack.init(self._context())
        self.cases = torch.arange(len(field.clean), device=field.clean.device)
        self.lowest, self.result = _Kept(field.clean), _Kept(field.clean)
        self.last = field.clean.clone()

    def ask(self, step: int) -> Feedback:
        """The answer at the iterate, brought back to where the attack may be; it is compared."""
        radius, field = self.plan.radii[step] if self.plan.radii else 1.0, self.field
        images = project(self.state.images, field.clean, scaled(self.budget, radius))
        self.state, goal = replace(self.state, images=images), field.goal
        if isinstance(self.state, WeightedState):
            goal = replace(goal, weights=self.state.weights)
        loss = partial(self.attack.loss, progress=step / self.plan.steps)
        feedback = field.objective.value_and_grad(images, loss, goal)
        self.here = field.answered(feedback.logits)
        self.inside = torch.full_like(self.here.left, radius <= 1, dtype=torch.bool)
        if self.has_threshold:
            self._compare_with_threshold(images)
        self.lowest.update(self.cases, images, self.here, self.inside)
        return feedback

    def let_go(self, feedback: Feedback) -> Feedback:
        """The answer of those that go on; who is done is decided by the original network."""
        limit = self.here.left.new_zeros(len(self.cases)).masked_fill(~self.inside, -1.0)
        if self.has_threshold and self.plan.stop_early:
            limit = torch.full_like(limit, self.budget.eps)
        done = self.here.left <= limit
        if done.any():
            some = done.nonzero()[:, 0]
            there = self.field.select(some)
            left = there.objective.remaining(self.state.images[some], there.goal)
            done[some] = left <= limit[some]
        if not done.any():
            return feedback
        self.last[self.cases[done]] = self.state.images[done]
        going = (~done).nonzero()[:, 0]
        self.cases, self.field = self.cases[going], self.field.select(going)
        self.state = select(self.state, going)
        chosen: Feedback = select(feedback, going)
        return chosen

    def move(self, feedback: Feedback) -> None:
        """The attack's own step."""
        self.state = self.attack.step(self._context(), self.state, feedback)

    def _context(self) -> Context:
        return replace(self.field.context, budget=self.budget)

    def _compare_with_threshold(self, images: Tensor) -> None:
        """Of iterates anywhere in the box: which lie in the ball, and which are nearest."""
        order = torch.inf if self.field.norm == "linf" else 2
        distance = flat_norm(images - self.field.clean, order)
        self.inside = distance <= self.field.budget.eps * (1 + _ROUNDING)
        # What has fallen goes before all that has not; the nearer, the further before.
        near = -1 / distance.clamp_min(torch.finfo(distance.dtype).tiny)
        left = torch.where(
            self.here.left < self.budget.eps, near.to(self.here.left), self.here.left
        )
        everywhere = torch.ones_like(self.inside)
        self.result.update(self.cases, images, Standing(left, self.here.loss), everywhere)


class _Kept:
    """Of each case the iterate (B, C, *spatial) that stands worst; at first the clean image."""

    def __init__(self, clean: Tensor) -> None:
        self.images = clean.clone()
        self.standing: Standing | None = None

    def update(self, cases: Tensor, images: Tensor, here: Standing, allowed: Tensor) -> None:
        """Iterates of some of the cases, of which those that are ``allowed`` (B,) count."""
        if self.standing is None:  # the first time it is all of them
            never = torch.full_like(here.left, torch.inf), torch.full_like(here.loss, -torch.inf)
            self.standing = Standing(*never)
        known = self.standing.select(cases)
        better = here.beats(known) & allowed
        kept = torch.where(per_case(better, images), images, self.images[cases])
        self.images[cases] = kept
        self.standing = here.where(better, known).put(cases, self.standing)
