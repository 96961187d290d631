"""``where=``: the part of the image that an attack may perturb; the whole of it is scored.

It belongs to the threat model and not to an attack: every attack within a norm, on an area or of
minimum norm takes it, whoever wrote it, and the engine holds it to that. What the words mean on a
case is in ``evaluation/regions.py``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.api import TransferAttack, WholeImage
from segbench.errors import ContractError, UserError
from segbench.plugins.naming import WITHIN
from segbench.plugins.spec import parse

WHERE = "where"
"""The parameter that any attack takes beside its own."""

FORMS = "inside, outside, border:R or mask:FOLDER"
_FORM = re.compile(r"inside|outside|border:(?P<radius>\d+(\.\d+)?)|mask:(?P<folder>.+)")
_NORMS = ("linf", "l2", "l1", "area", "min-norm")


def check_where(where: str, name: str, attack: Any) -> None:
    """Refuse what names no region, and an attack that none can confine.

    Raises:
        UserError: it says which of the two, and what to do.
    """
    if isinstance(attack, TransferAttack):
        inner = attack.attack
        joined = f"{inner}{',' if ':' in inner else ':'}where={where}"
        raise UserError(
            f"{name} scores images made elsewhere; say where= of the attack that makes them: "
            f'attack="{joined}"'
        )
    if attack.budget_kind not in _NORMS:
        raise UserError(
            f"{name}: where={where!r} is for attacks with a ball, an area or a distance; this one "
            f"has a budget of kind {attack.budget_kind}, and changes the whole image"
        )
    if isinstance(attack, WholeImage):
        raise UserError(f"{name} cannot be confined by where={where!r}: {attack.whole_image}")
    found = _FORM.fullmatch(where)
    if not found:
        raise UserError(f"{name}: where={where!r} is no region; expected {FORMS}")
    if found["radius"] and float(found["radius"]) < 1:
        raise UserError(f"{name}: where={where!r}: a border is 1 pixel wide or more on either side")


def may_be_confined(factory: Any) -> bool:
    """Whether attacks of that class take ``where=``, as far as the class says."""
    kind = getattr(factory, "budget_kind", None)
    whole = hasattr(factory, "whole_image") or {"source", "attack"} <= set(_fields(factory))
    return not whole and (not isinstance(kind, str) or kind in _NORMS)


def _fields(factory: Any) -> Mapping[str, Any]:
    return getattr(factory, "__dataclass_fields__", {})


def require_no_where(parameters: Mapping[str, Any]) -> None:
    """ContractError for an attack with a parameter of that name, which would not be seen."""
    if WHERE in parameters:
        raise ContractError(
            "its parameter where is segbench's own, which confines any attack to a region; rename "
            "it"
        )


def border_radius(where: str) -> float:
    """R of ``border:R``, in pixels; infinite for every other region."""
    found = _FORM.fullmatch(where)
    return float(found["radius"]) if found and found["radius"] else math.inf


def mask_folder(where: str | None) -> Path | None:
    """The folder of ``mask:FOLDER``; None for every other region, or none."""
    found = _FORM.fullmatch(where or "")
    return Path(found["folder"]).expanduser() if found and found["folder"] else None


def where_of(params: str) -> str:
    """What the parameters of stored rows say of it, "" for the whole image.

    Of a transfer that is what its attack on the source says.
    """
    values = json.loads(params)
    inner = values.get(WITHIN)
    if inner is not None and WHERE not in values:
        try:
            return parse(str(inner)).params.get(WHERE, "")
        except UserError:
            return ""
    return str(values.get(WHERE) or "")
