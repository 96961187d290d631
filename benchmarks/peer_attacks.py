"""The PGD of other packages as attacks of segbench, so that their images are judged as all others.

    segbench attack -a benchmarks/peer_attacks.py:Torchattacks:steps=40 ...

What they run is what ``peers.py`` times. Their networks' answers and gradients are the engine's.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import contenders
import torch
from setting import Setting
from torch import Tensor, nn

from segbench.api import Budget, Goal, Noise, Objective
from segbench.errors import UserError


class _Answer(torch.autograd.Function):
    """Logits of images, and what a gradient by them is by the images."""

    @staticmethod
    def forward(context: Any, images: Tensor, objective: Objective, goal: Goal) -> Tensor:
        context.save_for_backward(images)
        context.asked = objective, goal
        return objective.scores(images)

    @staticmethod
    def backward(context: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        (images,), (objective, goal) = context.saved_tensors, context.asked
        [weights] = incoming

        def value(logits: Tensor, _: Goal) -> Tensor:
            return (logits * weights).flatten(1).sum(1)

        return objective.value_and_grad(images.detach(), value, goal).gradient, None, None


class _Network(nn.Module):
    """What a peer takes for the network; the parameter tells it the device."""

    def __init__(self, objective: Objective, goal: Goal, device: torch.device) -> None:
        super().__init__()
        self.objective, self.goal = objective, goal
        self.nothing = nn.Parameter(torch.zeros((), device=device))

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = _Answer.apply(images, self.objective, self.goal)
        return answer


@dataclass(frozen=True)
class Peer:
    """What all share: steps of a quarter of eps on cross-entropy, from a random start.

    Attributes:
        steps: gradients a case.
    """

    steps: int = 40

    needs: ClassVar[Literal["gradients"]] = "gradients"
    budget_kind: ClassVar[Literal["linf"]] = "linf"
    package: ClassVar[str]
    contender: ClassVar[contenders.Contender]

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"steps={self.steps} must be at least 1")
        if importlib.util.find_spec(self.package) is None:
            raise UserError(f"{self.package} is not installed; benchmarks/README.md says how")

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The peer's images (B, C, *spatial)."""
        setting = Setting(steps=self.steps, eps=str(budget.value))
        network = _Network(objective, goal, images.device).eval()
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.manual_seed(int(noise.uniform(0, ())[0] * 2**24))
            return type(self).contender(network, images, goal.labels, setting).detach()


class Torchattacks(Peer):
    """torchattacks.PGD."""

    package = "torchattacks"
    contender = staticmethod(contenders.torchattacks)


class Foolbox(Peer):
    """foolbox's L-infinity PGD with a dense loss."""

    package = "foolbox"
    contender = staticmethod(contenders.foolbox)


class AdvLib(Peer):
    """adv-lib's ``pgd_linf``."""

    package = "adv_lib"
    contender = staticmethod(contenders.advlib)
