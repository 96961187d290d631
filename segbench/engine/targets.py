"""What a targeted attack wants to see instead of the truth: ``empty``, ``shift``, ``class:k``, or
the masks of a folder, ``file:FOLDER`` (see ``mask_files.py``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from segbench.errors import UserError

_FORM = re.compile(r"empty|shift|class:(\d+)|file:.+")


def check_target(text: str) -> None:
    """Refuse what names no target.

    Raises:
        UserError: it is none of the four forms.
    """
    if not _FORM.fullmatch(text):
        raise UserError(
            f"target={text!r} is not one; expected empty, shift, class:k or file:FOLDER"
        )


def check_class(text: str, class_names: Sequence[str]) -> None:
    """Refuse ``class:k`` where the data has no class k; every other target passes.

    Raises:
        UserError: there is no class k.
    """
    found = _FORM.fullmatch(text)
    if found and found[1] and int(found[1]) >= len(class_names):
        last = len(class_names) - 1
        raise UserError(f"target={text!r}: the data has classes 0 to {last} only")


def target_labels(
    text: str, truth: Tensor, class_names: Sequence[str], ignore: int | None, *, structures: bool
) -> Tensor:
    """The mask a targeted attack leads to, like ``truth``: (B, *spatial), or one plane per
    structure, (B, S, *spatial) of 0 and 1.

    ``empty`` is background everywhere: the lesion vanishes. ``class:k`` is class k everywhere.
    ``shift`` is the truth moved by a quarter of the image along its last axis, round the edge.
    Pixels ignored in the truth stay ignored.

    Raises:
        UserError: there is no class k.
    """
    check_class(text, class_names)
    target = _shifted(truth, ignore) if text == "shift" else torch.zeros_like(truth)
    found = _FORM.fullmatch(text)
    if found and found[1]:
        wanted = int(found[1])
        if not structures:
            target += wanted
        elif wanted:
            target[:, wanted - 1] = 1
    return target if ignore is None else target.where(truth != ignore, ignore)


def _shifted(truth: Tensor, ignore: int | None) -> Tensor:
    known = truth if ignore is None else truth.where(truth != ignore, 0)
    return known.roll(max(1, truth.shape[-1] // 4), -1)
