"""RSE: the worst of eleven (Halmosi, Mohos & Jelasity, ECCV 2024, arXiv 2407.09150)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Goal, Noise, Objective, State
from segbench.errors import UserError
from segbench_attacks.alma_prox import ALMAProx
from segbench_attacks.dag import DAG
from segbench_attacks.field import Field
from segbench_attacks.goals import check_goal
from segbench_attacks.losses import LossName
from segbench_attacks.padam import PAdam
from segbench_attacks.pdpgd import PDPGD
from segbench_attacks.race import Member, Race
from segbench_attacks.runs import BySteps
from segbench_attacks.sea import LOSSES, SEA

FALLEN = 0.01  # the Jaccard that the minimum-norm members are after: hardly a pixel right


@dataclass(frozen=True)
class OneLoss(SEA):
    """The run of ``sea`` with one of its losses, from that run's own start.

    Attributes:
        number: of the run.
    """

    number: int = 0

    @property
    def losses(self) -> tuple[LossName, ...]:
        """The one."""
        return LOSSES[self.preset][self.number : self.number + 1]

    def init(self, context: Context) -> State:
        """A random point of the largest ball."""
        return super().init(replace(context, restart=self.number))


def member(name: str, make: Callable[[int], BySteps]) -> Member:
    """A member by its name in rows and the attack that it is in so many steps."""
    return Member(None, attack=(name, lambda norm, steps: make(steps)), leaving=True)


def apgd(number: int) -> Member:
    """The run of SEA of that number."""
    name = f"sea, {LOSSES['arxiv'][number]}"
    return member(name, lambda steps: OneLoss(steps, number=number))


def dag(step_size: float) -> Member:
    """DAG with steps of that size."""
    return member(f"dag, {step_size}", lambda steps: DAG(FALLEN, steps, step_size=step_size))


# Each with its own number of steps: the papers', or their released code's.
MEMBERS: tuple[tuple[Member, int], ...] = (
    (member("padam, ce", lambda steps: PAdam(steps)), 200),
    (member("padam, cosine", lambda steps: PAdam(steps, loss_="cosine")), 200),
    *((apgd(number), 300) for number in range(4)),
    (dag(0.001), 200),
    (dag(0.003), 200),
    (member("pdpgd", lambda steps: PDPGD(FALLEN, steps, step_size=0.01)), 500),
    (member("alma-prox", lambda steps: ALMAProx(FALLEN, steps, step_size=1e-4)), 500),
)


@dataclass(frozen=True)
class RSE:
    """The clean image, PAdam with two losses, SEA's four, DAG twice, PDPGD and ALMA-prox.

    The lowest score of a case counts, of equals the highest cross-entropy, both by the original
    network. Minimum-norm members are after a Jaccard below 0.01, where the papers are after 99 % of
    pixels that are wrong; their result is clipped to the ball, and what they pass within it on
    their way counts too. On a network with one sigmoid the margin takes the place of the cosine and
    of the normalised logits, as in the members by themselves. A case leaves at the worst score, and
    costs 3000 gradients at most.

    Attributes:
        steps: of PAdam and of DAG. SEA's runs take 1.5 times as many, PDPGD and ALMA-prox 2.5
            times: a case costs 15 times as many gradients.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
        version: what a version's number means never changes; rows record it.
    """

    steps: int = 200
    target: str | None = None
    version: Literal[1] = 1

    needs: ClassVar[Literal["gradients"]] = "gradients"
    budget_kind: ClassVar[BudgetKind] = "linf"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")
        if self.steps < 4:
            raise UserError(f"rse: steps={self.steps} must be at least 4, for SEA's three balls")

    @property
    def gradients(self) -> int:
        """Of a case at most."""
        return sum(self._lengths())

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The worst image found of each case, (B, C, *spatial)."""
        members = [member for member, _ in MEMBERS]
        race = Race(Field(objective, images, goal, budget, noise, "linf"), members)
        race.open(list(enumerate(self._lengths())))
        race.give_credit()
        return race.images

    def _lengths(self) -> list[int]:
        """The steps of each member."""
        return [steps * self.steps // 200 for _, steps in MEMBERS]
