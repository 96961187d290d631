"""How often the gate is wrong, by simulation: alarms where nothing fell, and falls that it misses.

Two networks of the same cases, whose true scores are equal or have all fallen by as much,
differ case by case as two trainings do: little on clean images and more the larger eps is, one case
in twenty by four times as much. Each file has seven budgets and two metrics, which move together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.metrics.permutation import holm
from segbench.metrics.stats import chances_of_drop, mean_intervals
from segbench.tables.verdicts import LEVEL

CASES = (4, 8, 16, 48, 123)
FALLEN = (0.0, 0.02, 0.05)
TOLERANCE = 0.01
SPREADS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08)
"""Standard deviations of a case's difference, by budget."""

SINGLE = (0.05,)
"""A file of one score."""

_SHARED = 0.6  # of a difference, what all budgets of a case have in common
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Power:
    """Shares of simulated gates that close: by a test of the cases, and by the tolerance alone."""

    cases: int
    fallen: float
    paired: float
    plain: float


def simulate_gate(
    cases: int, fallen: float, trials: int, spreads: Sequence[float] = SPREADS, seed: int = 0
) -> Power:
    """Gates over so many cases whose true scores have all fallen by that much.

    A single spread is a file of one score; of several each has two metrics.
    """
    random = np.random.default_rng([seed, cases, int(1e4 * fallen), len(spreads)])
    groups = np.arange(cases)
    paired = plain = 0
    for _ in range(trials):
        own = _heavy(random, (cases, len(spreads)))
        mixed = _SHARED * _heavy(random, (cases, 1)) + (1 - _SHARED**2) ** 0.5 * own
        scores = np.array(spreads) * (mixed if len(spreads) > 1 else own)
        if len(spreads) > 1:
            second = 0.8 * scores + random.normal(0, 0.002, scores.shape)
            scores = np.concatenate([scores, second], axis=1)
        count = scores.shape[1]
        which, whose = np.tile(np.arange(count), cases), np.repeat(groups, count)
        found = mean_intervals((scores - fallen).ravel(), which, whose, count, of="signed")
        beyond, chances = found.mean < -TOLERANCE, holm(chances_of_drop(found))
        plain += bool(beyond.any())
        paired += bool((beyond & (chances <= LEVEL)).any())
    return Power(cases, fallen, paired / trials, plain / trials)


def _heavy(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Standard deviation one; one in twenty is four times as wide as the others."""
    wide = np.where(random.random(shape) < 0.05, 4.0, 1.0)
    return np.asarray(random.normal(size=shape) * wide / np.sqrt(0.95 + 0.05 * 16))
