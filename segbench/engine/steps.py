"""The loop of a step attack: start, ask, step, project; compact the finished, keep the best.

Attacks ascend; the loop owns everything else. Choices (among restarts, and whether a case is
finished) are made by the original network in fp32.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import torch
from torch import Tensor

from segbench.api import (
    Budget,
    Context,
    Feedback,
    Goal,
    Loss,
    MinimumNorm,
    Plan,
    SeesFeatures,
    State,
    StepAttack,
    WeightedState,
)
from segbench.engine import ball
from segbench.engine.late_gain import LONG, LateGain
from segbench.engine.nearest import Nearest
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective, remaining
from segbench.engine.outcome import Outcome
from segbench.engine.returned import check_plan, check_state
from segbench.engine.subsets import select, select_context, select_goal
from segbench.engine.trust import Trust
from segbench.engine.whole import within
from segbench.errors import UserError

COMPACT_EVERY = 4


class StepRun:
    """One step attack on one batch."""

    def __init__(
        self,
        network: Network,
        attack: StepAttack,
        images: Tensor,
        goal: Goal,
        budget: Budget,
        noise: CaseNoise,
        region: Tensor | None,
        trust: Trust,
    ) -> None:
        self.trust = trust
        self.network, self.attack, self.noise = network, attack, noise
        self.plan: Plan = check_plan(attack.plan(budget))
        self.leaving = self.plan.stop_early or self.plan.keep == "nearest"
        self.tells = self.attack.needs == "gradients" and self.plan.steps >= LONG
        self.objective = NetworkObjective(network)
        self.forwards = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        self.backwards, self.zeros = self.forwards.clone(), self.forwards.clone()
        self.at_fault, self.low = self.forwards.bool(), False
        self.movable = ~self.at_fault if region is None else region.flatten(1).any(1)
        self.gained = torch.full_like(self.forwards, torch.nan, dtype=torch.float64)
        self.nearest: Nearest | None = None
        self.everyone = torch.arange(len(images), device=images.device)
        if self.plan.labels == "prediction" and not goal.targeted:
            goal = dataclasses.replace(goal, labels=self._own_labels(images, goal))
        if isinstance(attack, SeesFeatures):
            goal = self._with_features(attack.layer, images, goal)
        self.context = Context(images, goal, budget, noise, region=region)

    def run(self) -> Outcome:
        """All restarts; per case the image with the lowest score, the first among equals.

        Of a minimum-norm attack the nearest one.

        Raises:
            AllMisledError: by gradients of low precision, every case.
        """
        context, alive = self.context, self.everyone
        best = self._one_restart(context, alive)
        if self.plan.restarts > 1:
            best_score = self._scores(best, context.goal, alive)
        for restart in range(1, self.plan.restarts):
            if (nearest := self.nearest) is not None:
                self._one_restart(dataclasses.replace(context, restart=restart), alive)
                assert self.nearest is not None
                best = nearest.or_nearer(self.nearest).images
                self.nearest = nearest
                continue
            if self.plan.stop_early:
                keep = (best_score[alive] > 0).nonzero()[:, 0]
                alive, context = alive[keep], select_context(context, keep)
            if not len(alive):
                break
            found = self._one_restart(dataclasses.replace(context, restart=restart), alive)
            score = self._scores(found, context.goal, alive)
            better = score < best_score[alive]
            best[alive[better]], best_score[alive[better]] = found[better], score[better]
        costs = (self.forwards.tolist(), self.backwards.tolist(), self.zeros.tolist())
        return Outcome(best, *costs, late_gain=self.gained.tolist())

    def _with_features(self, layer: str, images: Tensor, goal: Goal) -> Goal:
        """The goal of a loss that looks into a layer, with what that makes of the clean images."""
        self.forwards += 1
        full = self.network.layer_named(layer)
        clean = self.objective.features(images, full)
        return dataclasses.replace(goal, layer=full, clean_features=clean)

    def _own_labels(self, images: Tensor, goal: Goal) -> Tensor:
        """The network's clean prediction; what is ignored in the truth stays ignored."""
        self.forwards += 1
        labels = self.objective.labels(images)
        if goal.ignore_index is None:
            return labels
        return labels.where(goal.truth != goal.ignore_index, goal.ignore_index)

    def _one_restart(self, context: Context, cases: Tensor) -> Tensor:
        """The images that one restart ends with, for those cases of the batch, in that order."""
        alive, finished, whole = cases, torch.empty_like(self.context.images), context
        record = self._record(context, cases)
        late = LateGain(len(self.everyone), self.plan.steps, self.everyone.device)
        state = check_state(self.attack.init(context), context.images, "init")
        state = self._projected(state, context, 0)
        for step in range(self.plan.steps):
            loss = partial(self.attack.loss, progress=step / self.plan.steps)
            if step == 0 and self.attack.needs == "gradients":
                self.trust.note(alive.tolist(), loss, _goal(context, state))
            feedback = self._ask(state.images, loss, _goal(context, state), context.region)
            self._count(alive, state, feedback)
            if step % COMPACT_EVERY == 0 or step == self.plan.steps - 1:
                self._examine(alive, state.images, loss, _goal(context, state), feedback)
            if step == 0 and self.attack.needs != "labels":
                started = dataclasses.replace(context.goal, start=feedback.logits)
                context = dataclasses.replace(context, goal=started)
            inside = self._radius(step) <= 1
            if record is not None and inside:
                score = self._suggested(feedback, context.goal)
                record.update(alive, state.images, score)
            if self.tells and inside and step % COMPACT_EVERY == 0:
                late.note(step, alive, self._suggested(feedback, context.goal))
            if self.leaving and inside and step % COMPACT_EVERY == 0:
                done = self._done(record, state.images, feedback, context.goal, alive)
                if done.any():
                    finished[alive[done]] = state.images[done]
                    keep = (~done).nonzero()[:, 0]
                    alive, context = alive[keep], select_context(context, keep)
                    state, feedback = select(state, keep), select(feedback, keep)
                    if not len(alive):
                        break
            state = check_state(self.attack.step(context, state, feedback), context.images, "step")
            state = self._projected(state, context, step + 1)
            del feedback  # of a volume the next answer needs its memory
        finished[alive] = state.images
        self.gained = torch.fmax(self.gained, late.gain())
        self._refuse_faults()
        last = finished[cases]
        if record is None:
            return last
        if isinstance(record, Nearest):
            if len(alive):
                last_score = self._scores(state.images, context.goal, alive)
                record.update(alive, state.images, last_score)
            return record.narrowed(cases)
        earlier = record.images[cases]
        better = self._scores(earlier, whole.goal, cases) < self._scores(last, whole.goal, cases)
        return torch.where(ball.per_case(better, last), earlier, last)

    def _record(self, context: Context, cases: Tensor) -> _Record | Nearest | None:
        """For the first restart the clean image with its score, which the best must beat."""
        if self.plan.keep == "last":
            return None
        clean = self._scores(context.images, context.goal, cases)
        if self.plan.keep == "nearest":
            self.nearest = self._nearest(context, cases, clean)
            return self.nearest
        record = _Record(self.context.images.clone())
        if context.restart == 0:
            record.scores[cases] = clean.double()
        return record

    def _radius(self, step: int) -> float:
        """The ball of the iterate at that step, as a share of the budget."""
        return self.plan.radii[step] if step < len(self.plan.radii) else 1

    def _projected(self, state: State, context: Context, step: int) -> State:
        budget = ball.scaled(context.budget, self._radius(step))
        images = ball.project(state.images.detach(), context.images, budget, context.region)
        return dataclasses.replace(state, images=images)

    def _nearest(self, context: Context, cases: Tensor, clean: Tensor) -> Nearest:
        """A record in which the clean images that score low enough are found at distance 0."""
        assert isinstance(self.attack, MinimumNorm)
        goal = self.context.goal

        def score(images: Tensor, cases: Tensor) -> Tensor:
            return self._scores(images, select_goal(goal, cases), cases)

        record = Nearest(self.context.images, context.budget.eps, self.attack.norm, score)
        record.update(cases, context.images, clean)
        return record

    def _done(
        self,
        record: _Record | Nearest | None,
        images: Tensor,
        feedback: Feedback,
        goal: Goal,
        cases: Tensor,
    ) -> Tensor:
        """Which cases can leave the batch (B,)."""
        if isinstance(record, Nearest):
            return (record.found if self.plan.stop_early else record.distance == 0)[cases]
        return self._at_worst(images, feedback, goal, cases)

    def _at_worst(self, images: Tensor, feedback: Feedback, goal: Goal, cases: Tensor) -> Tensor:
        """Which cases score 0: suggested by the answer, decided by the original in fp32."""
        done = self._suggested(feedback, goal) <= 0
        if done.any():
            some = done.nonzero()[:, 0]
            done[some] = self._scores(images[some], select_goal(goal, some), cases[some]) <= 0
        return done

    def _scores(self, images: Tensor, goal: Goal, cases: Tensor) -> Tensor:
        self.forwards[cases] += 1
        return self.objective.remaining(images, goal)

    def _suggested(self, feedback: Feedback, goal: Goal) -> Tensor:
        """What is left to do (B,) as the answer itself has it, be it the gradient copy's."""
        if self.attack.needs == "labels":
            return 1 - feedback.loss
        return remaining(self.network, self.network.as_labels(feedback.logits), goal)

    def _ask(self, images: Tensor, loss: Loss, goal: Goal, region: Tensor | None) -> Feedback:
        """One answer, with what the attack needs and no more."""
        if self.attack.needs == "gradients":
            return within(self.objective.value_and_grad(images, loss, goal), region)
        nothing = torch.zeros_like(images)
        if self.attack.needs == "labels":
            success = 1 - self.objective.remaining(images, goal)
            return Feedback(success, nothing, images.new_empty(len(images), 0))
        logits = self.objective.scores(images)
        value = loss(logits, goal)
        return Feedback(-value if goal.targeted else value, nothing, logits)

    def _examine(
        self, cases: Tensor, images: Tensor, loss: Loss, goal: Goal, feedback: Feedback
    ) -> None:
        """Whether gradients of low precision lead somewhere; one host read."""
        self.low = self.attack.needs == "gradients" and self.trust.is_low(loss, goal)
        if self.low:
            self.trust.examine(cases.tolist(), images, loss, goal, feedback)

    def _count(self, cases: Tensor, state: State, feedback: Feedback) -> None:
        """Count an answer, and note whose answer is not finite; nothing is read by the host."""
        gradients = self.attack.needs == "gradients"
        self.forwards[cases] += self.network.samples if gradients else 1
        self.backwards[cases] += self.network.samples if gradients else 0
        height = ball.flat_norm(feedback.gradient, torch.inf)
        if gradients:
            nowhere = (height == 0) & self.movable[cases]
            self.zeros[cases] += self.network.samples * nowhere
        answer = feedback.loss + height
        asked = ball.flat_norm(state.images, torch.inf)
        self.at_fault[cases] |= ~answer.isfinite() & asked.isfinite()

    def _refuse_faults(self) -> None:
        if self.low:
            self.trust.doubt(self.at_fault)
        elif self.at_fault.any():
            case = self.noise.case_ids[int(self.at_fault.nonzero()[0])]
            raise UserError(
                f"model {self.network.name} gives a NaN or infinite loss or gradient on case {case}"
            )


class _Record:
    """The iterate (B, C, *spatial) with the lowest score so far of each case of the batch."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.scores = torch.full(images.shape[:1], torch.inf, device=images.device).double()

    def update(self, cases: Tensor, images: Tensor, scores: Tensor) -> None:
        """Iterates of some of the cases; an equal score changes nothing."""
        better = scores < self.scores[cases]
        kept = torch.where(ball.per_case(better, images), images, self.images[cases])
        self.images[cases] = kept
        self.scores[cases] = torch.where(better, scores.double(), self.scores[cases])


def _goal(context: Context, state: State) -> Goal:
    """The goal, with the weights that the state has for its loss."""
    if isinstance(state, WeightedState):
        return dataclasses.replace(context.goal, weights=state.weights)
    return context.goal
