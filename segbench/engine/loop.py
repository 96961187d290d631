"""The attack loop: start, ask, step, project; compact the finished, keep the best, check the last.

Attacks ascend; the loop owns everything else. Choices (among restarts, and whether a case is
finished) are made by the original network in fp32.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from segbench import metrics
from segbench.api import Attack, Budget, Context, Goal, Plan, State, StepAttack
from segbench.engine import ball
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.errors import UserError

COMPACT_EVERY = 4


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an attack made of a batch: images (B, C, *spatial), and its cost per case."""

    images: Tensor
    forwards: list[int]
    backwards: list[int]


def attack_batch(
    network: Network,
    attack: Attack,
    images: Tensor,
    goal: Goal,
    budget: Budget,
    noise: CaseNoise,
) -> Outcome:
    """Run an attack on a batch: images (B, C, *spatial) in [0, 1] on the network's device.

    Raises:
        UserError: the network answers with NaN; the case is named.
    """
    if isinstance(attack, StepAttack):
        return _StepRun(network, attack, images, goal, budget, noise).run()
    objective = NetworkObjective(network)
    found = attack.run(objective, images.clone(), goal, budget, noise)
    cases = len(images)
    share = objective.forwards // cases, objective.backwards // cases
    found = ball.project(found.detach(), images, budget)
    return Outcome(found, [share[0]] * cases, [share[1]] * cases)


class _StepRun:
    """One step attack on one batch."""

    def __init__(
        self,
        network: Network,
        attack: StepAttack,
        images: Tensor,
        goal: Goal,
        budget: Budget,
        noise: CaseNoise,
    ) -> None:
        self.network, self.attack, self.noise = network, attack, noise
        self.plan: Plan = attack.plan(budget)
        self.objective = NetworkObjective(network)
        if self.plan.labels == "prediction":
            goal = dataclasses.replace(goal, labels=self.objective.labels(images))
        self.context = Context(images, goal, budget, noise)
        self.forwards = [0] * len(images)
        self.backwards = [0] * len(images)

    def run(self) -> Outcome:
        """All restarts; per case the image with the lowest score, the first among equals."""
        best, best_score = self.context.images, None
        for restart in range(self.plan.restarts):
            found = self._one_restart(restart)
            if self.plan.restarts == 1:
                best = found
                break
            score = self._scores(found, self.context.goal)
            if best_score is None:
                best, best_score = found, score
            better = score < best_score
            best = torch.where(ball.per_case(better, found), found, best)
            best_score = torch.where(better, score, best_score)
            if self.plan.stop_early and bool((best_score <= 0).all()):
                break
        return Outcome(best, self.forwards, self.backwards)

    def _one_restart(self, restart: int) -> Tensor:
        context = dataclasses.replace(self.context, restart=restart)
        alive = torch.arange(len(context.images), device=context.images.device)
        finished = context.images.clone()
        state = self._projected(self.attack.init(context), context)
        for step in range(self.plan.steps):
            loss = partial(self.attack.loss, progress=step / self.plan.steps)
            feedback = self.objective.value_and_grad(state.images, loss, context.goal)
            self._count(alive, feedback.loss)
            if self.plan.stop_early and step % COMPACT_EVERY == 0:
                done = self._at_worst(state.images, feedback.logits, context.goal)
                if done.any():
                    finished[alive[done]] = state.images[done]
                    keep = (~done).nonzero()[:, 0]
                    alive, context = alive[keep], _select_context(context, keep)
                    state, feedback = _select(state, keep), _select(feedback, keep)
                    if not len(alive):
                        return finished
            state = self._projected(self.attack.step(context, state, feedback), context)
        finished[alive] = state.images
        return finished

    def _projected(self, state: State, context: Context) -> State:
        images = ball.project(state.images.detach(), context.images, context.budget)
        return dataclasses.replace(state, images=images)

    def _at_worst(self, images: Tensor, logits: Tensor, goal: Goal) -> Tensor:
        """Which cases score 0: suggested by the gradient copy, decided by the original in fp32."""
        done = self._score_labels(self.network.as_labels(logits), goal) <= 0
        if done.any():
            some = done.nonzero()[:, 0]
            done[some] = self._scores(images[some], _select_goal(goal, some)) <= 0
        return done

    def _scores(self, images: Tensor, goal: Goal) -> Tensor:
        return self._score_labels(self.objective.labels(images), goal)

    def _score_labels(self, predicted: Tensor, goal: Goal) -> Tensor:
        return metrics.case_score(self.network.score(predicted, goal.truth, goal.ignore_index))

    def _count(self, alive: Tensor, loss: Tensor) -> None:
        indices = alive.tolist()
        for index in indices:
            self.forwards[index] += 1
            self.backwards[index] += 1
        wrong = (~loss.isfinite()).nonzero()
        if len(wrong):
            case = self.noise.case_ids[indices[int(wrong[0])]]
            raise UserError(
                f"model {self.network.name} gives a NaN or infinite loss on case {case}"
            )


def _select(record: Any, index: Tensor) -> Any:
    """A State or Feedback of some of its cases: every tensor has the case as its first axis."""
    chosen = {
        f.name: value[index]
        for f in dataclasses.fields(record)
        if isinstance(value := getattr(record, f.name), Tensor)
    }
    return dataclasses.replace(record, **chosen)


def _select_goal(goal: Goal, index: Tensor) -> Goal:
    return dataclasses.replace(goal, labels=goal.labels[index], truth=goal.truth[index])


def _select_context(context: Context, index: Tensor) -> Context:
    return dataclasses.replace(
        context,
        images=context.images[index],
        goal=_select_goal(context.goal, index),
        noise=context.noise.select(index),
    )
