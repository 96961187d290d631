"""What an attack may be after: away from the truth or its own prediction, or towards a target."""

from __future__ import annotations

from segbench.api import Labels
from segbench.engine.targets import check_target
from segbench.errors import UserError


def check_lasting_target(target: str | None) -> None:
    """Refuse what is no target of an attack that is trained: it never sees the masks of a file.

    Raises:
        UserError: the target is none, or comes from files.
    """
    check_goal(target, "truth")
    if target is not None and target.startswith("file:"):
        raise UserError(
            f"target={target!r} says what to make of single cases, which an attack on all of them "
            "cannot learn; expected empty, shift or class:k"
        )


def check_goal(target: str | None, labels: Labels) -> None:
    """Refuse a goal that contradicts itself.

    Raises:
        UserError: the target is no target, or the attack is to lead away from its own prediction
            at the same time.
    """
    if target is None:
        return
    check_target(target)
    if labels == "prediction":
        raise UserError("labels=prediction leads away from a prediction; leave it out with target")
