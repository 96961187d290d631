"""What cross-entropy alone does not pass is a weak loss, where nothing else shows that it hides."""

from __future__ import annotations

import pytest

from segbench.diagnosis import checks
from segbench.diagnosis.weak_loss import name_weak_loss
from segbench.metrics.stats import Interval
from segbench.store.diagnoses import CHECKS, DIFFERENCES, ROUTES, TRANSFER, Check, Verdict

SEARCH = "gradients against black box"
OTHERS = (
    "two identical forwards",
    ROUTES,
    DIFFERENCES,
    "saturated logits",
    "exactly zero gradients",
    "exactly zero gradients (scored-hinge)",
    f"{SEARCH} (scored-hinge)",
    "standard against all others",
    "standard's climbs against its search",
    "standard at twice the cost",
)
PASSED = checks.check_saturated(0.0)


def battery(*verdicts: tuple[str, Verdict]) -> list[Check]:
    """Every check, passed but for these."""
    given = dict(verdicts)
    return [
        PASSED.model_copy(update={"name": name, "verdict": given.get(name, "pass")})
        for name in sorted(CHECKS)
    ]


@pytest.mark.parametrize("verdict", ["suspicious", "fail"])
@pytest.mark.parametrize(
    "name", [SEARCH, "many steps against one", "gradients against noise", "damage grows with eps"]
)
def test_a_climb_by_cross_entropy_that_alone_does_not_pass_is_of_a_weak_loss(
    name: str, verdict: Verdict
) -> None:
    named = name_weak_loss(battery((name, verdict)))
    assert checks.overall(named) == "weak loss"
    told = next(check for check in named if check.name == name)
    assert told.meaning.startswith("Cross-entropy is a weak loss on this network")
    assert "by the scored hinge the number is 0.000" in told.meaning
    assert "-a standard" in told.meaning


@pytest.mark.parametrize("verdict", ["suspicious", "fail"])
@pytest.mark.parametrize("other", OTHERS)
def test_no_loss_is_to_blame_where_anything_else_does_not_pass(
    other: str, verdict: Verdict
) -> None:
    found = battery((SEARCH, "fail"), (other, verdict))
    assert name_weak_loss(found) == found


def test_no_loss_is_to_blame_where_the_standard_suite_was_not_asked() -> None:
    found = [check for check in battery((SEARCH, "fail")) if "standard" not in check.name]
    assert name_weak_loss(found) == found


def test_images_of_several_networks_are_each_weighed() -> None:
    """Those of one beat cross-entropy, those of another do not; the hinge's worse is told."""

    def moved(mean: float, loss: str = "") -> Check:
        difference = Interval(mean, mean - 0.01, mean + 0.01, 8, 8)
        return checks.named_after(checks.check_transfer(difference, "a"), loss)

    by_hinge = [moved(number, "scored-hinge") for number in (-0.2, -0.1)]
    found = [*battery(), moved(0.1), moved(-0.1), *by_hinge]
    named = [check for check in name_weak_loss(found) if check.name == TRANSFER]
    assert [check.verdict for check in named] == ["weak loss", "pass"]
    assert "the number is -0.100" in named[0].meaning
    assert named[1] == moved(-0.1)
