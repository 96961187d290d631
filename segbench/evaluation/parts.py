"""Parts of a grid that may be worked off apart: a share of it by number, or what a plan says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.errors import UserError
from segbench.evaluation.model_plan import ModelPlan
from segbench.evaluation.pieces import Shard, own_cases
from segbench.store.records import read_record, write_record


@dataclass(frozen=True)
class SharePart:
    """One of several shares, the same whatever is stored and whoever runs; a ``Part``."""

    shard: Shard

    def own(self, plan: ModelPlan, cell: int) -> set[str]:
        """See ``Part``."""
        groups = [group for _, group in plan.groups]
        return own_cases(groups, cell, plan.place, self.shard, fitted=plan.is_fitted(cell))

    def has(self, model: str) -> bool:
        """Of every network it may have something."""
        return True


@dataclass(frozen=True)
class PlannedPart:
    """Cases that somebody has chosen; a ``Part``.

    Attributes:
        cases: network -> the key of a cell's first view -> case ids.
    """

    cases: Mapping[str, Mapping[str, Sequence[str]]]

    def own(self, plan: ModelPlan, cell: int) -> set[str]:
        """See ``Part``."""
        asked = self.cases.get(plan.name, {})
        if cell == 0:
            self._require_same(plan)
        return set(asked.get(plan.cells[cell][1][0].key, ()))

    def _require_same(self, plan: ModelPlan) -> None:
        """Refuse to find nothing to do where something was planned that is now known otherwise."""
        asked = self.cases.get(plan.name, {})
        named = {name for names in asked.values() for name in names}
        keys = {views[0].key for _, views in plan.cells}
        if not asked.keys() <= keys or not named <= plan.known.keys():
            raise UserError(
                f"{plan.name}, its attacks or its data were changed since this part was planned; "
                "plan again (segbench submit)"
            )

    def has(self, model: str) -> bool:
        """Whether it has anything of a network."""
        return model in self.cases


def write_part(path: Path, part: PlannedPart) -> None:
    """Write a part.

    Raises:
        MachineError: the disk refused.
    """
    write_record(path, {"part": part.cases})


def read_part(path: Path) -> PlannedPart:
    """A part that was written.

    Raises:
        UserError: there is none, or it is not as it was written.
    """
    record = read_record(path)
    if record is None or not isinstance(record.get("part"), dict):
        raise UserError(f"{path} is no part of a grid; segbench submit writes such files")
    return PlannedPart(record["part"])
