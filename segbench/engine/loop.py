"""An attack run on a batch, whichever kind it is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from segbench.api import Budget, Goal, StepAttack, WarpAttack, WholeAttack
from segbench.engine import ball
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.outcome import Outcome
from segbench.engine.returned import check_displacement, check_images
from segbench.engine.steps import StepRun
from segbench.engine.subsets import select_goal
from segbench.engine.trust import AllMisledError, Trust, same_draws
from segbench.engine.warp import warped
from segbench.engine.whole import CaseObjective


def attack_batch(
    network: Network,
    attack: StepAttack | WholeAttack | WarpAttack,
    images: Tensor,
    goal: Goal,
    budget: Budget,
    noise: CaseNoise,
    region: Tensor | None = None,
) -> Outcome:
    """Run an attack on a batch: images (B, C, *spatial) in [0, 1] on the network's device.

    Where there is a ``region``, bool (B, 1, *spatial), nothing outside it changes: a step attack's
    iterates are projected onto it and its gradients end there; a whole attack asks about a network
    that does not see what lies outside.

    Gradients are the network's copy's, which may be of low precision. A case on which they are not
    those of fp32 is attacked in fp32 alone, and its outcome is that of such an attack.

    Raises:
        UserError: a loss or gradient is NaN or infinite; the case is named.
        ContractError: what the attack returned is not what the contract says.
    """
    goal = dataclasses.replace(goal, structures=network.structures)
    task = _Task(network, attack, images, goal, budget, noise, region)
    with network.steady():
        return task.run()


@dataclass(frozen=True, eq=False)
class _Task:
    """An attack and the cases that it is run on."""

    network: Network
    attack: StepAttack | WholeAttack | WarpAttack
    images: Tensor
    goal: Goal
    budget: Budget
    noise: CaseNoise
    region: Tensor | None

    def run(self) -> Outcome:
        """As fast as may be; cases that low precision misled are attacked anew in fp32."""
        network, trust = self.network, self._trust()
        network.copies.used.clear()
        if network.copies.fast.exact is None or self.attack.needs != "gradients":
            return self._outcome(trust)
        found = None
        with same_draws(network.device), suppress(AllMisledError):
            found = self._outcome(trust)
        if not trust.misled:
            assert found is not None
            return found
        places = sorted(trust.misled)
        with network.copies.in_fp32():
            some = self if len(places) == len(self.images) else self._of(places)
            again = some._outcome(some._trust())
        again = dataclasses.replace(again, checks=[trust.misled[place] for place in places])
        if found is None or some is self:
            return again
        return found.with_cases(places, again)

    def _trust(self) -> Trust:
        return Trust(self.network, self.images, self.noise.contents, self.region)

    def _of(self, places: Sequence[int]) -> _Task:
        index = torch.tensor(places, device=self.images.device)
        return dataclasses.replace(
            self,
            images=self.images[index],
            goal=select_goal(self.goal, index),
            noise=self.noise.select(index),
            region=None if self.region is None else self.region[index],
        )

    def _outcome(self, trust: Trust) -> Outcome:
        found = self._attacked(trust)
        return dataclasses.replace(found, precisions=trust.names, checks=trust.checks)

    def _attacked(self, trust: Trust) -> Outcome:
        network, attack, images, noise = self.network, self.attack, self.images, self.noise
        goal, budget, region = self.goal, self.budget, self.region
        if isinstance(attack, StepAttack):
            return StepRun(network, attack, images, goal, budget, noise, region, trust).run()
        objective = CaseObjective(network, noise, images, region, trust)
        if isinstance(attack, WarpAttack):
            moves = attack.warp(objective, images.clone(), goal, budget, noise)
            check_displacement(moves, images)
            found = warped(images, moves).clamp(0, 1)
            return Outcome(found, *objective.spent(), displacement=moves)
        found = attack.run(objective, images.clone(), goal, budget, noise)
        check_images(found, images, "run")
        found = ball.project(found.detach(), images, budget, region)
        spent, late = objective.spent(), objective.late_gain
        return Outcome(found, *spent, members=objective.members, late_gain=late)
