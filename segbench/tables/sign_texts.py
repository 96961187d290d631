"""What a sign of a stuck attack says, and what to do about it that this attack can do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from segbench.plugins.naming import spell
from segbench.plugins.spec import Spec
from segbench.plugins.where import WHERE
from segbench.tables.curve_signs import Kind, Sign

_SAID: Mapping[Kind, str] = {
    "rise": "it leaves {size:.3f} more at {at} than at {smaller}, which is no wider",
    "behind": "at {at} others leave {size:.3f} less",
    "zero": "at {at} {size:.0%} of its steps met a gradient that is zero everywhere",
    "blind": "at {at} {size:.3f} of its mean is of cases of which most steps met a gradient that "
    "is zero everywhere",
    "searched": "at {at} a search without gradients found the worst image of {size:.0%} of its "
    "cases, so gradients lead astray there",
    "idle": "at {at} the last half of its steps gained {gained:.4f}, and {size:.3f} was left",
    "alone": "at {at} its network is ahead of every other by {size:.3f}, under {other}, which "
    "leaves no more of it, by {lead:.3f} only",
}
_EFFORTS = ("steps", "restarts", "queries")  # parameters of which an attack may be given more
NORMS = ("linf", "l2")  # in which the suite, a search without gradients, and more of both are
_DIAGNOSE = "see `segbench diagnose` for a reason"


def describe_sign(sign: Sign, name: Callable[[float], str]) -> str:
    """One kind of sign with its number, where it is worst, and at how many more budgets it is."""
    facts = {**sign.facts, "at": name(sign.budget), "size": sign.size}
    if "smaller" in facts:
        facts["smaller"] = name(facts["smaller"])
    budgets = "budget" if sign.more == 1 else "budgets"
    more = f" (and so at {sign.more} more {budgets})" if sign.more else ""
    return f"{_SAID[sign.kind].format(**facts)}{more}"


def advise(kind: Kind, attack: str, params: str, norm: str) -> str:
    """What to do about a sign of an attack: nothing that this attack, or its norm, lacks.

    Args:
        attack: its name, with or without parameters.
        params: all of them, as rows have them.
    """
    given = json.loads(params)
    if kind == "behind":
        return "the worst of the attacks is what counts"
    if kind == "alone":
        return "the other attacks are right"
    if kind in ("zero", "blind", "searched"):
        search = "a longer search" if kind == "searched" else "a search without gradients"
        return _either(_DIAGNOSE, *_other("square", given, norm, f"try {search}, "))
    efforts = [name for name in _EFFORTS if isinstance(given.get(name), int)]
    if kind == "rise":
        own = [f"give it more {' or '.join(efforts)}"] if efforts else []
    else:
        own = ["give it another loss"] if given.get("loss") else []
    return _either(*own, *_suite(attack, given, norm)) or _DIAGNOSE


def _suite(attack: str, given: Mapping[str, Any], norm: str) -> list[str]:
    """The standard suite; of itself, what it takes."""
    if "cost" not in given and attack.partition(":")[0].partition("@")[0] != "standard":
        return _other("standard", given, norm, "")
    if given.get("cost") == "thorough":
        return []  # there is no more of it
    settled = [] if given.get("target") or norm not in NORMS else ["`--until-settled`"]
    return ["give it `cost=thorough`", *settled]


def _other(attack: str, given: Mapping[str, Any], norm: str, before: str) -> list[str]:
    """Another attack on the same threat, where it knows the norm."""
    if norm not in NORMS:
        return []
    threat = {"norm": None if norm == "linf" else norm}
    threat |= {name: given.get(name) for name in ("target", WHERE)}
    spec = Spec(attack, {name: spell(value) for name, value in threat.items() if value})
    return [f"{before}`-a {spec}`"]


def _either(*ways: str) -> str:
    return ", or ".join(ways)
