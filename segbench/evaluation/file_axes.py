"""How the voxels of cases lie in their files, for networks that answer by it.

A case is known by its content, which is canonical: of a file that is saved again along other axes
it is the same. Most networks see nothing else. One that meets its cases may turn them back into
their files' axes, as nnU-Net does, and then answers about them otherwise; so which way they lay is
part of what its cells are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from segbench.api import Case
from segbench.engine.meeting import meets_cases
from segbench.errors import UserError
from segbench.networks.loaded import LoadedModel
from segbench.store.records import digest


def file_axes(case: Case) -> str:
    """Where a volume's file has its axes run to, such as ``LPS``; "" where nothing is turned."""
    if case.affine is None or case.image.ndim != 4:
        return ""
    from nibabel.orientations import aff2axcodes

    return "".join(map(str, aff2axcodes(case.affine)))


def axes_met(model: LoadedModel, cases: Iterable[tuple[str, str, str]]) -> str:
    """What the axes of files add to the identity of what a network answers; "" where nothing.

    The axes that all files have, so that more cases may join them; else a hash of which has which.

    Args:
        cases: the id, ``Case.sha256`` and ``file_axes`` of each.

    Raises:
        UserError: two are the same but for their axes, and would share their scores.
    """
    if not meets_cases(model.module):
        return ""
    known: dict[str, tuple[str, str]] = {}
    for case_id, sha256, axes in cases:
        other, lies = known.setdefault(sha256, (case_id, axes))
        if lies != axes:
            raise UserError(
                f"cases {other} and {case_id} are the same volume, along {lies} in one file and "
                f"{axes} in the other; a network that sees the files' axes answers differently, "
                "and a volume has one score: leave one of them out"
            )
    ways = {axes for _, axes in known.values()}
    if ways <= {""}:
        return ""
    pairs = sorted((sha256, axes) for sha256, (_, axes) in known.items())
    return ways.pop() if len(ways) == 1 else digest({"axes": pairs})


def axes_facts(axes: str) -> dict[str, Any]:
    """``axes_met`` among the facts of a record."""
    return {"axes": axes} if axes else {}
