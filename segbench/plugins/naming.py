"""How attacks and budgets are written: as short as they can be and still be told apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.errors import UserError
from segbench.plugins.spec import Spec, format_eps, parse, parse_parameters

if TYPE_CHECKING:
    from pandas import DataFrame

_TELLING = {
    "calibrated",
    "quantized",
    "sigma",
    "source",
    "version",
    "where",
}  # parameters without which an attack is another one
_COST = {"cost": "standard"}  # what a suite spends, and what goes without saying
_UNSET = "none"
_OWN = re.compile(r'(?P<name>[^":=,]+:[A-Za-z_]\w*)(:(?P<rest>.+))?')  # my_attack:Mine:steps=3
_ILLEGAL = re.compile(r"[^A-Za-z0-9.,=+_@#-]")
_LONGEST_NAME = 150
_UNSPELLABLE = re.compile(r'[":=,]')
WITHIN = "attack"
"""The parameter of a transfer, or of a search, that is itself the spec of an attack."""
CLEAN = "clean"
"""The name under which unattacked scores are stored, at budget 0 and of budget kind ``none``."""


_SAID = {"severity": "severity", "min-norm": "threshold"}


def eps_names(points: Iterable[tuple[str, float]]) -> dict[tuple[str, float], str]:
    """(kind, value) of budgets as people write them; two values never share a name.

    A share of the pixel range that is a simple one of 255 is written so (8/255); other values,
    and norms and areas, are decimals. Severities and the Jaccard that a minimum-norm attack is to
    fall below say what they are (severity 3, threshold 0.5), so that no eps can be taken for one.
    """
    names: dict[tuple[str, float], str] = {}
    owners: dict[str, float] = {}
    for kind, budget in sorted(set(points)):
        simple = Fraction(budget).limit_denominator(255 * 40)
        exact = simple if float(simple) == budget else Fraction(budget)
        name = format_eps(exact) if kind == "linf" else f"{budget:g}"
        if kind in _SAID:
            name = f"{_SAID[kind]} {name}"
        names[kind, budget] = name if owners.setdefault(name, budget) == budget else repr(budget)
    return names


def legal(text: str) -> str:
    """The same in characters that every file system holds; two texts may become one."""
    kept = _ILLEGAL.sub("_", text)
    return re.sub(r"^\.+", lambda dots: "_" * len(dots[0]), kept) or "_"


def file_name(text: str) -> str:
    """The name of a file or folder; of a text that is changed or cut with part of its hash."""
    name = legal(text)
    if name == text and len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def point_names(summary: DataFrame) -> list[str]:
    """The columns of a summary that are points of its curves, in order: clean, then every eps.

    Each has two neighbours with the ends of its interval, ``<name>_low`` and ``<name>_high``.
    """
    return [str(name) for name in summary if f"{name}_low" in summary]


def attack_spec(attack: str, params: str) -> str:
    """An attack with every one of its parameters as spec text, whatever else is stored.

    ``("pgd", '{"steps": 40}')`` to ``"pgd:steps=40"``.
    """
    return str(spelled(attack, params))


def quantized_attack(attack: str, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and parameters under which an attack's images are stored on their file's levels.

    The same attack with one parameter more, ``quantized``, so that every table, and the gate,
    takes them for an attack of their own.
    """
    separator = "," if _read(attack).params else ":"
    return f"{attack}{separator}quantized=true", {**params, "quantized": True}


def is_rounded(params: str) -> bool:
    """Whether images under these stored parameters were rounded to their file's levels."""
    return bool(json.loads(params).get("quantized"))


def attack_names(specs: Iterable[str]) -> dict[str, str]:
    """Complete specs, as of :func:`attack_spec`, to the names that a report of them all has.

    Two different specs never share a name; a text that is no spec is its own.
    """
    texts = sorted(set(specs))
    return dict(zip(texts, tell_apart([_read(text) for text in texts]), strict=True))


def tell_apart(attacks: Sequence[Spec]) -> list[str]:
    """Of each attack its name and those parameters in which its namesakes differ.

    An attack within an attack is named likewise. What is unset is not said, unless nothing else
    tells two of them apart. A suite's version is always said (``standard@5``), and its cost
    wherever it is not the usual one: a number of another version, or of its quick form, is another
    number, and a table is read far from what made it.
    """
    if not attacks:
        return []
    within = attack_names(a.params[WITHIN] for a in attacks if WITHIN in a.params)
    short = [
        Spec(
            a.name, {k: within[v] if k == WITHIN else v for k, v in a.params.items() if _said(k, v)}
        )
        for a in attacks
    ]
    agreed = {
        name: set.intersection(*(set(a.params.items()) for a in short if a.name == name))
        for name in {a.name for a in short}
    }
    apart = [
        {k: v for k, v in a.params.items() if (k, v) not in agreed[a.name] or _is_telling(k, v)}
        for a in short
    ]
    full = [_cited(a.name, params) for a, params in zip(short, apart, strict=True)]
    names = [
        _cited(a.name, {k: v for k, v in params.items() if v != _UNSET})
        for a, params in zip(short, apart, strict=True)
    ]
    whole = [str(attack) for attack in attacks]
    return next(kind for kind in (names, full, whole) if len({*kind}) == len({*whole}))


def _cited(name: str, params: Mapping[str, str]) -> str:
    """``standard@5:cost=quick``: as a spec is written, a suite's version with its name."""
    version = params.get("version", "")
    if not version.isdigit():
        return str(Spec(name, params))
    return str(Spec(f"{name}@{version}", {k: v for k, v in params.items() if k != "version"}))


def _said(key: str, value: str) -> bool:
    """Unless it goes without saying."""
    return _COST.get(key) != value


def _is_telling(key: str, value: str) -> bool:
    return key in _TELLING or key in _COST


def tell_files_apart(files: Mapping[str, str]) -> dict[str, str]:
    """Keys to their files' names without ``.py``, with as few folders as tell them apart.

    ``{"1": "x/a/my.py", "2": "x/b/my.py", "3": "your.py"}`` to ``a/my``, ``b/my`` and ``your``.
    """
    parts = {key: Path(file).resolve().with_suffix("").parts for key, file in files.items()}

    def name(key: str, length: int) -> str:
        return _UNSPELLABLE.sub("_", "/".join(parts[key][-length:]))

    found = {}
    for key in files:
        others = [other for other in files if parts[other] != parts[key]]
        lengths = range(1, len(parts[key]) + 1)
        told = (n for n in lengths if all(name(key, n) != name(other, n) for other in others))
        found[key] = name(key, next(told, len(parts[key])))
    return found


def spelled(attack: str, params: str) -> Spec:
    """An attack with all its parameters; clean has none."""
    values = {} if attack == CLEAN else json.loads(params)
    return Spec(_read(attack).name, {key: spell(value) for key, value in values.items()})


def _read(text: str) -> Spec:
    """The spec that a text is; a name without parameters where it is none."""
    try:
        if own := _OWN.fullmatch(text):
            return Spec(own["name"], parse_parameters(own["rest"] or "", text))
        return parse(text)
    except UserError:
        return Spec(text)


def spell(value: Any) -> str:
    """A parameter's value as spec text."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "+".join(map(spell, value))
    return str(value)
