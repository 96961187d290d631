"""Whether it is a loss that is weak on a network, and no gradient that is hidden from it.

Signed steps by cross-entropy can stall in a corner of the ball even on a linear network, where a
random search or one large step finds more. That says something of attacks by cross-entropy, and
nothing of the gradient, which the scored hinge and the standard suite follow to more.
"""

from __future__ import annotations

from collections.abc import Sequence

from segbench.store.diagnoses import OF_A_LOSS, STANDARD, TRANSFER, Check

HINGE = "scored-hinge"
_CLIMBED = {*OF_A_LOSS, TRANSFER} - {"exactly zero gradients"}  # how far a loss's climb comes


def name_weak_loss(found: Sequence[Check]) -> list[Check]:
    """The same checks; those that cross-entropy alone does not pass become a ``weak loss``.

    They do where every other check was made and passed: the same ones by the scored hinge, and
    that nothing beats the standard suite. Else all are as they were.
    """
    doubted = {check.name for check in found if check.verdict != "pass"}
    if not doubted <= _CLIMBED or not {check.name for check in found}.issuperset(STANDARD):
        return [*found]
    return [_weak(check, found) if check.name in doubted else check for check in found]


def _weak(check: Check, found: Sequence[Check]) -> Check:
    if check.verdict == "pass":  # of several networks' images those of another
        return check
    hinge = max(one.number for one in found if one.name == f"{check.name} ({HINGE})")
    return check.model_copy(
        update={
            "verdict": "weak loss",
            "meaning": "Cross-entropy is a weak loss on this network, and no gradient is hidden: "
            f"by the scored hinge the number is {hinge:.3f}, and nothing beats the standard suite; "
            "attack with -a standard.",
        }
    )
