"""What a TIFF's description says of the images that lie behind its pages."""

from __future__ import annotations

import re
from pathlib import Path

from segbench.data.faults import BadFileError

_AXIS = re.compile(r"^(images|channels|slices|frames)=(\d+)\s*$", re.MULTILINE)  # ImageJ's
_SHAPE = re.compile(r'\{"shape": \[([\d, ]+)\]')  # tifffile's


def refuse_hidden(pages: int, description: str, path: Path) -> None:
    """Refuse planes that lie behind the only page, or pages that are more than a volume's planes.

    ImageJ writes one page of what is large, as tifffile does where it is asked to, and says in the
    description what follows it.

    Raises:
        BadFileError: it says that there is more than ``pages``.
    """
    said = dict(_AXIS.findall(description)) if description.startswith("ImageJ") else {}
    axes = [f"{name}={said[name]}" for name in ("channels", "slices", "frames") if name in said]
    holds = axes if len(axes) > 1 else []
    if int(said.get("images", pages)) != pages:
        holds.append(f"images={said['images']}")
    shape = _SHAPE.match(description)
    sides = [int(side) for side in shape[1].split(",")] if shape else []
    if pages == 1 and len(sides) > 2 and sides[0] > 1 and sides[-1] not in (3, 4):
        holds.append(f"shape={sides}")
    if holds:
        raise BadFileError(
            path,
            f"says that it holds {' '.join(holds)}, and has {pages} pages; save the planes of one "
            "volume, each as a page",
        )
