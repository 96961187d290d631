"""All checks on one network: which attacks are run, and which answers are compared.

At one eps, L-infinity, on the same cases, and first by cross-entropy, which most attacks ascend,
then by the scored hinge, which knows the score and is not saturated where cross-entropy is: noise,
one step, many steps, twice as many, a random search, and images made against other networks; then
smaller budgets and the whole pixel range. Last the standard suite, which none of them may beat,
whose search must not beat its climbs, and which as many gradients again must not leave behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np

from segbench.api import StepAttack, WholeAttack
from segbench.api.objective import WITHOUT_GRADIENTS
from segbench.diagnosis import checks
from segbench.diagnosis.examination import Examination, Scores, Traced, late_rise
from segbench.diagnosis.unaware import unaware
from segbench.diagnosis.weak_loss import HINGE, name_weak_loss
from segbench.metrics.stats import Interval, paired_difference
from segbench.plugins import registry
from segbench.plugins.attack import load_attack
from segbench.store.diagnoses import Check

STEPS = 40
BLACK_BOX = "square"
STANDARD = "standard"
_QUERIES = 5  # per gradient step, forwards only: about the cost of the steps, times two
_SMALLER = (Fraction(1, 4), Fraction(1, 2))
_HUGE = Fraction(1)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Climb:
    """A loss, how it is climbed in many steps, and in one.

    Attributes:
        name: what is said of its checks; "" for the first.
    """

    name: str
    many: str
    one: str


CLIMBS = (
    Climb("", "pgd:steps={}", "fgsm"),
    Climb(
        HINGE,
        "pgd:loss=scored-hinge,momentum=nesterov,schedule=cosine,steps={}",
        "pgd:loss=scored-hinge,random_start=false,rel_step=1,steps=1",
    ),
)


def run_checks(
    examined: Examination, eps: Fraction, others: Sequence[Examination], progress: Progress
) -> list[Check]:
    """Every check that can be made; those by a weak loss are called so.

    Args:
        examined: the network.
        eps: of the comparisons; the smaller budgets are its half and its quarter.
        others: other networks on the very same cases, for the transfer check; may be empty.
        progress: told each check that is done.
    """
    found = []
    for check in _Battery(examined, eps, others).checks():
        progress(check.name)
        found.append(check)
    return name_weak_loss(found)


class _Battery:
    """The checks of one network at one eps.

    Attributes:
        scores: what each attack has left of every case, by the attack's name.
    """

    def __init__(self, examined: Examination, eps: Fraction, others: Sequence[Examination]) -> None:
        self.examined, self.eps, self.others = examined, eps, others
        self.scores: dict[str, Scores] = {}

    def checks(self) -> Iterator[Check]:
        """All of them, in order."""
        samples = self.examined.network.samples
        yield checks.check_random(self.examined.change_between_forwards(), samples)
        if (unseen := self.examined.network.unseen) is not None:
            yield checks.check_routes(unseen)
        yield checks.check_saturated(self.examined.saturated())
        if not self.examined.differentiable():
            yield checks.check_zero_gradients(1.0)
            return
        if (missed := self.examined.unforetold()) is not None:
            yield checks.check_differences(missed)
        for climb in CLIMBS:
            for check in self._climbed(climb):
                yield checks.named_after(check, climb.name)
        if (bare := unaware(self.examined)) is not None:
            yield self._reported(bare)
        if STANDARD in registry.names("attacks"):
            yield from self._standard()

    def _reported(self, bare: Examination) -> Check:
        """What the first climb would have reported of a network whose front it does not know."""
        many = CLIMBS[0].many
        made = [image for batch in bare.batches for image in batch.images]  # stuck where they are
        if bare.differentiable():
            made = bare.images(_steps(many.format(STEPS)), self.eps)
        reported, left = self.examined.scores(made), self.scores[many]
        return checks.report_unaware(float(np.nanmean(reported)), float(np.nanmean(left)))

    def _climbed(self, climb: Climb) -> Iterator[Check]:
        """Those of one loss."""
        examined, eps = self.examined, self.eps
        iterative = Traced(_steps(climb.many.format(STEPS)))
        zeros = examined.zero_gradients(iterative, inside=bool(climb.name))
        yield checks.check_zero_gradients(zeros)
        score = self.scores[climb.many] = examined.attacked(iterative, eps)

        def against(other: Scores) -> Interval:
            """What the iterative attack leaves beyond what another leaves."""
            return paired_difference(score, other, examined.groups)

        yield checks.check_late_rise(late_rise(iterative.losses))
        yield checks.check_single_step(against(self._under(climb.one)))
        yield checks.check_noise(against(self._under("noise:restarts=10")))
        twice = examined.attacked(Traced(_steps(climb.many.format(2 * STEPS))), eps)
        yield checks.check_steps(against(twice))
        yield from self._budgets(iterative, score)
        if BLACK_BOX in registry.names("attacks"):
            search = f"{BLACK_BOX}:steps={_QUERIES * STEPS}"
            yield checks.check_black_box(against(self._under(search)), search)
        for other in self.others:
            moved = examined.scores(other.images(iterative, eps))
            self.scores[f"transfer from {other.network.name}"] = moved
            yield checks.check_transfer(against(moved), other.network.name)

    def _under(self, attack: str) -> Scores:
        """The scores under an attack, which is run once."""
        if attack not in self.scores:
            self.scores[attack] = self.examined.attacked(_attack(attack), self.eps)
        return self.scores[attack]

    def _budgets(self, attack: StepAttack, score: Scores) -> Iterator[Check]:
        """Smaller budgets, and one that allows any image at all."""
        examined = self.examined
        ladder = [examined.attacked(attack, self.eps * share) for share in _SMALLER] + [score]
        rises = [
            paired_difference(larger, smaller, examined.groups)
            for smaller, larger in pairwise(ladder)
        ]
        yield checks.check_growth(rises)
        huge = examined.attacked(attack, _HUGE)
        yield checks.check_huge(paired_difference(huge, examined.chance(), examined.groups))

    def _standard(self) -> Iterator[Check]:
        """The suite against all that was tried here, and against more of its own kind."""
        rivals: Mapping[str, Scores] = dict(self.scores)
        examined, groups = self.examined, self.examined.groups
        outcomes = examined.outcomes(_attack(STANDARD), self.eps)
        own = examined.scores([image for outcome in outcomes for image in outcome.images])
        spent = [number for outcome in outcomes for number in outcome.backwards]
        behind = {name: paired_difference(own, rival, groups) for name, rival in rivals.items()}
        best = max(behind, key=lambda name: behind[name].mean)
        yield checks.check_standard(behind[best], best.partition(":")[0])
        members = [member for outcome in outcomes for member in outcome.members]
        unled = [member in WITHOUT_GRADIENTS for member in members]
        yield checks.check_search(float(np.mean(unled)))
        # Two climbs, together what the suite took of those cases of which something is left.
        taken = np.array(spent)[own > 0] / examined.network.samples
        lowest, steps = own, max(1, int(taken.mean() // 2)) if len(taken) else 1
        for loss in ("scored-hinge", "lovasz"):
            more = f"pgd:keep=best,loss={loss},momentum=nesterov,schedule=cosine,steps={steps}"
            lowest = np.fmin(lowest, self._under(more))
        yield checks.check_twice_the_cost(paired_difference(own, lowest, groups))


@cache
def _attack(text: str) -> StepAttack | WholeAttack:
    attack = load_attack(text).attack
    assert isinstance(attack, StepAttack) or hasattr(attack, "run"), text
    return attack  # type: ignore[return-value]


def _steps(text: str) -> StepAttack:
    attack = _attack(text)
    assert isinstance(attack, StepAttack), text
    return attack
