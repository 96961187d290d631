"""The standard attack in few steps, for laws that do not depend on their number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segbench_attacks import climbs, race, substitute
from segbench_attacks.standard import PROGRAMMES, Programme


def shortened(programme: Programme, share: int) -> Programme:
    """The same members in the same order, each for a share of its steps and six at least.

    Twelve of another attack, whose own losses and balls share them.
    """

    def few(steps: int, least: int = 6) -> int:
        return steps and max(steps // share, least)

    return replace(
        programme,
        openings=tuple(
            (member, few(steps, 12 if member.attack else 6)) for member, steps in programme.openings
        ),
        rungs=tuple(map(few, programme.rungs)),
        sequels=tuple(replace(sequel, steps=few(sequel.steps)) for sequel in programme.sequels),
        onward=programme.onward and shortened(programme.onward, share),
        queries=few(programme.queries),
        further=programme.further and shortened(programme.further, share),
    )


def shorten_suites(monkeypatch: pytest.MonkeyPatch, share: int = 16) -> None:
    """Every programme by that share, in which few steps suffice to decide that a case goes on."""
    for costs in PROGRAMMES.values():
        for cost, programme in costs.items():
            monkeypatch.setitem(costs, cost, shortened(programme, share))
    monkeypatch.setattr(race, "DECISIVE", 2)
    monkeypatch.setattr(race, "DIRECTION", 2)
    monkeypatch.setattr(climbs, "TOLD", 2)
    for steps, few in (("LESSON", 12), ("FURTHER", 3), ("CLIMB", 4)):
        monkeypatch.setattr(substitute, steps, few)
