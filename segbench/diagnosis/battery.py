"""All checks on one network: which attacks are run, and which answers are compared.

At one eps, L-infinity, on the same cases: noise, one step, many steps, twice as many, a random
search, and images made against other networks; then smaller budgets and the whole pixel range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from segbench.api import StepAttack
from segbench.diagnosis import checks
from segbench.diagnosis.examination import Examination, Scores, Traced, late_rise
from segbench.metrics.stats import Interval, paired_difference
from segbench.plugins import registry
from segbench.plugins.attack import load_attack
from segbench.store.diagnoses import Check

STEPS = 40
BLACK_BOX = "square"
_QUERIES = 5  # per gradient step, forwards only: about the cost of the steps, times two
_SMALLER = (Fraction(1, 4), Fraction(1, 2))
_HUGE = Fraction(1)

Progress = Callable[[str], None]


def run_checks(
    examined: Examination, eps: Fraction, others: Sequence[Examination], progress: Progress
) -> list[Check]:
    """Every check that can be made.

    Args:
        examined: the network.
        eps: of the comparisons; the smaller budgets are its half and its quarter.
        others: other networks on the very same cases, for the transfer check; may be empty.
        progress: told each check that is done.
    """
    found = []
    for check in _checks(examined, eps, others):
        progress(check.name)
        found.append(check)
    return found


def _checks(examined: Examination, eps: Fraction, others: Sequence[Examination]) -> Iterator[Check]:
    samples = examined.network.samples
    yield checks.check_random(examined.change_between_forwards(), samples)
    yield checks.check_saturated(examined.saturated())
    if not examined.differentiable():
        yield checks.check_zero_gradients(1.0)
        return
    iterative = Traced(_attack(f"pgd:steps={STEPS}"))
    yield checks.check_zero_gradients(examined.zero_gradients(iterative))
    score = examined.attacked(iterative, eps)

    def against(other: Scores) -> Interval:
        """What the iterative attack leaves beyond what another leaves."""
        return paired_difference(score, other, examined.groups)

    yield checks.check_late_rise(late_rise(iterative.losses))
    yield checks.check_single_step(against(examined.attacked(_attack("fgsm"), eps)))
    yield checks.check_noise(against(examined.attacked(_attack("noise:restarts=10"), eps)))
    twice = examined.attacked(Traced(_attack(f"pgd:steps={2 * STEPS}")), eps)
    yield checks.check_steps(against(twice))
    yield from _budgets(examined, iterative, eps, score)
    if BLACK_BOX in registry.names("attacks"):
        search = f"{BLACK_BOX}:steps={_QUERIES * STEPS}"
        yield checks.check_black_box(against(examined.attacked(_attack(search), eps)), search)
    for other in others:
        moved = examined.scores(other.images(iterative, eps))
        yield checks.check_transfer(against(moved), other.network.name)


def _budgets(
    examined: Examination, attack: StepAttack, eps: Fraction, score: Scores
) -> Iterator[Check]:
    """Smaller budgets, and one that allows any image at all."""
    ladder = [examined.attacked(attack, eps * share) for share in _SMALLER] + [score]
    rises = [
        paired_difference(larger, smaller, examined.groups) for smaller, larger in pairwise(ladder)
    ]
    yield checks.check_growth(rises)
    huge = examined.attacked(attack, _HUGE)
    yield checks.check_huge(paired_difference(huge, examined.chance(), examined.groups))


def _attack(text: str) -> StepAttack:
    attack = load_attack(text).attack
    assert isinstance(attack, StepAttack), text
    return attack
