"""How the voxels of cases lie in their files, for networks that answer by it.

A case is known by its content, which is canonical: of a file that is saved again along other axes
it is the same. Most networks see nothing else. One that meets its cases may turn them back into
their files' axes, as nnU-Net does, and then answers about them otherwise; so which way they lay is
part of what its cells are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from segbench.api import Case, MeetsCases
from segbench.networks.loaded import LoadedModel
from segbench.store.records import digest


def file_axes(case: Case) -> str:
    """Where a volume's file has its axes run to, such as ``LPS``; "" where nothing is turned."""
    if case.affine is None or case.image.ndim != 4:
        return ""
    from nibabel.orientations import aff2axcodes

    return "".join(map(str, aff2axcodes(case.affine)))


def axes_met(model: LoadedModel, cases: Iterable[tuple[str, str]]) -> str:
    """What the axes of files add to the identity of what a network answers; "" where nothing.

    The axes that all files have, so that more cases may join them; else a hash of which has which.

    Args:
        cases: ``Case.sha256`` and ``file_axes`` of each.
    """
    pairs = sorted(set(cases))
    ways = {axes for _, axes in pairs}
    if not isinstance(model.module, MeetsCases) or ways <= {""}:
        return ""
    return ways.pop() if len(ways) == 1 else digest({"axes": pairs})


def axes_facts(axes: str) -> dict[str, Any]:
    """``axes_met`` among the facts of a record."""
    return {"axes": axes} if axes else {}
