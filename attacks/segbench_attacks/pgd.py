"""PGD: projected gradient ascent from random starts (Madry et al., ICLR 2018, arXiv 1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from segbench.api import Goal
from segbench_attacks.ascent import ProjectedAscent
from segbench_attacks.losses import LossName, named_loss


@dataclass(frozen=True)
class PGD(ProjectedAscent):
    """Steps of a fixed share of eps, from a uniform start in the ball, the best restart per case.

    ``pgd:steps=1,rel_step=1,random_start=false,norm=l2`` is the L2 form of FGSM.

    Attributes:
        loss_: what is ascended (``loss=dice`` in a spec); see ``losses.py``.
    """

    loss_: LossName = "ce"

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The chosen loss per case (B,)."""
        return named_loss(self.loss_, logits, goal, progress)
