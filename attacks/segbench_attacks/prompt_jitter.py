"""`corruption/prompt-jitter`: a user draws the box, or the points, less well; severities 1 to 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Goal, Noise, Objective
from segbench_attacks.severities import EDGE, SEVERITIES, check_severities, severity_budgets

LEVELS = (2, 4, 8, 16, 32)  # pixels of a 224-pixel edge


@dataclass(frozen=True)
class PromptJitter:
    """Every side of a prompt's box, and every point, is moved by up to 2, 4, 8, 16, 32 pixels.

    Of an image whose longest edge is 224 pixels. The image stays as it is. Which way a case's
    prompt slips is drawn from the case, and is the same at every severity. For networks that take
    a prompt.

    Attributes:
        severities: which of 1 to 5 to run.
    """

    severities: tuple[int, ...] = SEVERITIES

    needs: ClassVar[Literal["labels"]] = "labels"
    budget_kind: ClassVar[BudgetKind] = "severity"

    def __post_init__(self) -> None:
        check_severities(self.severities)

    @property
    def budgets(self) -> Sequence[Budget]:
        """One per severity."""
        return severity_budgets(self.severities)

    def prompt_shift(self, budget: Budget) -> float:
        """The severity's, as a share of the longest edge."""
        return LEVELS[int(budget.value) - 1] / EDGE

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The images as they are (B, C, *spatial)."""
        return images
