"""A network under examination: what attacks do to it on some cases, always the same ones.

Every answer is one number per case (N,), in one order, so that two of them can be compared case by
case. Scores are the original network's, in fp32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.api import (
    Budget,
    BudgetKind,
    Case,
    Context,
    Feedback,
    Goal,
    Plan,
    State,
    StepAttack,
    WholeAttack,
)  # fmt: skip
from segbench.api.marks import UNPOOLING
from segbench.diagnosis.checks import SATURATED_MARGIN
from segbench.engine.batching import choose_batch_size
from segbench.engine.differences import unforetold_share
from segbench.engine.handed import handed
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.engine.outcome import Outcome
from segbench.evaluation.batch import Batch, collate
from segbench.metrics import regions
from segbench.store.diagnoses import DIFFERENCES, ROUTES

_ATTACKED, _SCORED, _PLACES, _FORWARDS = -1, -2, -3, -4  # draws that no attack uses
_DRAWS = {"random-network", "stateful-network"}
_FEW = 2  # images that gradients are held against finite differences on

Scores = NDArray[np.float64]


class Examination:
    """A prepared network and the batches it is examined on.

    Attributes:
        groups: (N,) the group of each case, in the order of all answers.
    """

    def __init__(self, network: Network, cases: Sequence[Case]) -> None:
        self.network = network
        self.batches = [collate(some, network) for some in _batches(network, cases)]
        self.groups = [case.group_id for batch in self.batches for case in batch.cases]

    def images(self, attack: StepAttack | WholeAttack, eps: Fraction) -> list[Tensor]:
        """What an L-infinity attack makes of every case (C, *spatial)."""
        return [image for outcome in self.outcomes(attack, eps) for image in outcome.images]

    def outcomes(self, attack: StepAttack | WholeAttack, eps: Fraction) -> list[Outcome]:
        """The same, a batch after the other, with what it cost."""
        budget, made = Budget("linf", eps), []
        for batch in self.batches:
            noise, goal = self._noise(batch, _ATTACKED), self._goal(batch)
            made.append(attack_batch(self.network, attack, batch.images, goal, budget, noise))
        return made

    def scores(self, images: Sequence[Tensor]) -> Scores:
        """The Jaccard of every case on such an image of it, whoever made them."""
        rest, found = iter(images), []
        for batch in self.batches:
            self._noise(batch, _SCORED)
            some = torch.stack([next(rest) for _ in batch.cases])
            found.append(NetworkObjective(self.network).remaining(some, self._goal(batch)))
        return _numbers(found)

    def attacked(self, attack: StepAttack | WholeAttack, eps: Fraction) -> Scores:
        """The Jaccard of every case under an L-infinity attack."""
        return self.scores(self.images(attack, eps))

    def chance(self) -> Scores:
        """The Jaccard of every case's true labels at random places."""
        found = []
        for batch in self.batches:
            shape, ignore = batch.images.shape[2:], batch.cases[0].ignore_index
            order = self._noise(batch, _PLACES).uniform(_PLACES, (shape.numel(),)).argsort(1)
            flat = batch.truth.reshape(len(order), -1, shape.numel())
            guess = flat.gather(2, order[:, None].expand_as(flat)).reshape_as(batch.truth)
            if ignore is not None:
                guess = guess.where(guess != ignore, 0)
            found.append(regions.case_score(self.network.score(guess, batch.truth, ignore)))
        return _numbers(found)

    def change_between_forwards(self) -> float:
        """The largest change of a logit over two forwards, as a share of the largest logit."""
        change = peak = 0.0
        for batch in self.batches:
            self._noise(batch, _FORWARDS)
            first, second = (self.network.exact_logits(batch.images) for _ in range(2))
            change = max(change, float((first - second).abs().max()))
            peak = max(peak, float(first.abs().max()))
        return change / peak if peak else change

    def saturated(self) -> float:
        """The share of valid pixels whose softmax is one-hot in fp32."""
        beyond = valid = 0
        for batch in self.batches:
            self.network.meet(batch.cases)
            two = NetworkObjective(self.network).scores(batch.images).topk(2, dim=1).values
            seen = torch.ones_like(batch.truth, dtype=torch.bool)
            if (ignore := batch.cases[0].ignore_index) is not None:
                seen = batch.truth != ignore
            beyond += int(((two[:, 0] - two[:, 1] > SATURATED_MARGIN) & seen).sum())
            valid += int(seen.sum())
        return beyond / max(valid, 1)

    def differentiable(self) -> bool:
        """Whether a gradient reaches the image at all, be it zero."""
        self.network.meet(self.batches[0].cases)
        leaf = self.batches[0].images[:1].clone().requires_grad_()
        with torch.enable_grad(), self.network.copies.fast.autocast():
            return self.network.canonical(
                self.network.copies.fast.module(handed(leaf)), leaf
            ).requires_grad

    @property
    def needless(self) -> tuple[str, ...]:
        """The checks that such a network cannot be held to: its answers are drawn, or its
        gradients are others by design."""
        if self.network.samples > 1 or not _DRAWS.isdisjoint(self.network.marks):
            return ROUTES, DIFFERENCES
        return (DIFFERENCES,) if {"bpda", UNPOOLING}.intersection(self.network.marks) else ()

    def unforetold(self) -> float | None:
        """The share of what logits change by, on images moved a little, that gradients miss.

        None of a network that draws, or whose gradients are meant to be others than its own.
        """
        network = self.network
        if DIFFERENCES in self.needless:
            return None
        module = network.copies.unrecorded.module
        network.meet(self.batches[0].cases)
        return unforetold_share(
            network.exact_logits,
            lambda image: network.canonical(module(handed(image)), image),
            self.batches[0].images[:_FEW],
        )

    def zero_gradients(self, attack: StepAttack, *, inside: bool = False) -> float:
        """The share of pixels where the gradient of the attack's loss is exactly zero.

        ``inside`` counts only those of the scored structures that the network has right, which a
        loss of these alone cannot do without.
        """
        zeros = pixels = 0
        for batch in self.batches:
            self._noise(batch, _ATTACKED)
            goal, objective = self._goal(batch), NetworkObjective(self.network)
            answer = objective.value_and_grad(
                batch.images, lambda logits, g: attack.loss(logits, g, 0.0), goal
            )
            counted = torch.ones_like(answer.gradient, dtype=torch.bool)
            if inside:
                counted &= self._right(batch, answer.logits)[:, None]
            zeros += int(((answer.gradient == 0) & counted).sum())
            pixels += int(counted.sum())
        return zeros / max(pixels, 1)

    def _right(self, batch: Batch, logits: Tensor) -> Tensor:
        """Pixels (B, *spatial) of a structure that these logits have right."""
        right = (batch.truth > 0) & (self.network.as_labels(logits) == batch.truth)
        return right.any(1) if self.network.structures else right

    def _goal(self, batch: Batch) -> Goal:
        return Goal(batch.truth, batch.truth, ignore_index=batch.cases[0].ignore_index)

    def _noise(self, batch: Batch, draw: int) -> CaseNoise:
        """The cases' noise; a network that draws is set to a draw of its own."""
        self.network.meet(batch.cases)
        noise = batch.noise(0)
        if self.network.one_by_one:
            torch.manual_seed(noise.torch_seed(draw))
        return noise


class Traced:
    """A step attack at its best, that notes its loss at every step; no case leaves early.

    What counts is its strongest iterate, by the score: a random search keeps its best too, and the
    checks ask what the gradient can do, not where the attack happens to end.

    Attributes:
        losses: a (B, T) tensor per batch.
    """

    needs: ClassVar[Literal["gradients", "scores", "labels"]] = "gradients"

    def __init__(self, attack: StepAttack) -> None:
        self.attack = attack
        self._steps: list[list[Tensor]] = []

    @property
    def budget_kind(self) -> BudgetKind:
        """The attack's."""
        return self.attack.budget_kind

    @property
    def losses(self) -> list[Tensor]:
        """What was noted."""
        return [torch.stack(steps, 1) for steps in self._steps]

    def plan(self, budget: Budget) -> Plan:
        """The attack's, once, with everybody on board to the end, and the best iterate kept."""
        plan = self.attack.plan(budget)
        return dataclasses.replace(plan, stop_early=False, restarts=1, keep="best")

    def init(self, context: Context) -> State:
        """The attack's start."""
        self._steps.append([])
        return self.attack.init(context)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The attack's loss per case (B,)."""
        return self.attack.loss(logits, goal, progress)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """The attack's step."""
        self._steps[-1].append(feedback.loss)
        return self.attack.step(context, state, feedback)


def late_rise(losses: Sequence[Tensor]) -> float:
    """The mean share of a loss's rise that came in the last quarter of its steps.

    Of the best loss so far, since signed steps swing. A case whose loss never rose counts as 1.

    Args:
        losses: (B, T) per batch.
    """
    shares = []
    for steps in losses:
        best = steps.double().cummax(1).values
        rise = best[:, -1] - best[:, 0]
        late = best[:, -1] - best[:, best.shape[1] * 3 // 4]
        shares.append(torch.where(rise > 0, late / rise.clamp_min(1e-300), 1.0))
    return float(torch.cat(shares).mean())


def _batches(network: Network, cases: Sequence[Case]) -> list[list[Case]]:
    """Cases of one shape together, as many as fit."""
    buckets: dict[tuple[int, ...], list[Case]] = {}
    for case in cases:
        buckets.setdefault(case.image.shape, []).append(case)
    batches = []
    for bucket in buckets.values():
        image = torch.from_numpy(bucket[0].image)[None].to(network.device)
        size = choose_batch_size(network, image)
        batches += [bucket[start : start + size] for start in range(0, len(bucket), size)]
    return batches


def _numbers(found: Sequence[Tensor]) -> Scores:
    numbers: Scores = torch.cat(list(found)).double().cpu().numpy()
    return numbers
