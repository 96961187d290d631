"""Parts of a grid that may be worked off apart: a share of it by number, or what a plan says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segbench.evaluation.model_plan import ModelPlan
from segbench.evaluation.pieces import Shard, own_cases


@dataclass(frozen=True)
class SharePart:
    """One of several shares, the same whatever is stored and whoever runs; a ``Part``."""

    shard: Shard

    def own(self, plan: ModelPlan, cell: int) -> set[str]:
        """See ``Part``."""
        groups = [group for _, group in plan.groups]
        return own_cases(groups, cell, plan.place, self.shard, fitted=plan.is_fitted(cell))


@dataclass(frozen=True)
class PlannedPart:
    """Cases that somebody has chosen; a ``Part``.

    Attributes:
        cases: network -> the key of a cell's first view -> case ids.
    """

    cases: Mapping[str, Mapping[str, Sequence[str]]]

    def own(self, plan: ModelPlan, cell: int) -> set[str]:
        """See ``Part``."""
        key = plan.cells[cell][1][0].key
        return set(self.cases.get(plan.name, {}).get(key, ())) & plan.known.keys()
