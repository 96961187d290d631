"""Severities 1 to 5: budgets of what changes an image as the world does, and not within a ball."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from segbench.api import Budget
from segbench.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)
EDGE = 224  # pixels; lengths grow with images whose longest edge is larger than that


def check_severities(given: tuple[int, ...]) -> None:
    """Refuse what is not some of 1 to 5.

    Raises:
        UserError: it is empty, out of order or out of range.
    """
    if not given or sorted(set(given)) != list(given) or not set(given) <= set(SEVERITIES):
        text = "+".join(map(str, given))
        raise UserError(f"severities={text} must be some of 1 to 5, ascending, such as 1+3+5")


def severity_budgets(given: tuple[int, ...]) -> Sequence[Budget]:
    """One per severity."""
    return [Budget("severity", Fraction(severity)) for severity in given]
