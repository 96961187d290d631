"""An attack run on a batch, whichever kind it is of."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from segbench.api import Budget, Goal, StepAttack, WarpAttack, WholeAttack
from segbench.engine import ball
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.outcome import Outcome
from segbench.engine.returned import check_displacement, check_images
from segbench.engine.steps import StepRun
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

    Raises:
        UserError: a loss or gradient is NaN or infinite; the case is named.
        ContractError: what the attack returned is not what the contract says.
    """
    goal = dataclasses.replace(goal, structures=network.structures)
    with network.steady():
        if isinstance(attack, StepAttack):
            return StepRun(network, attack, images, goal, budget, noise, region).run()
        objective = CaseObjective(network, noise, images, region)
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
