"""An attack by its spec text: looked up, its parameters complete, its provenance known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields, replace
from fractions import Fraction
from importlib.metadata import version
from typing import Any

from segbench.api import (
    Attack,
    BringsBudgets,
    Budget,
    FittedAttack,
    MovesPrompts,
    NamesLibraries,
    RunsAnother,
    TransferAttack,
    WarpAttack,
)
from segbench.errors import MachineError, UserError
from segbench.plugins import registry, spec
from segbench.plugins.contract import NORMS, check_attack
from segbench.plugins.naming import CLEAN, WITHIN, spell, tell_files_apart
from segbench.plugins.own_attack import own_attack, own_plugin
from segbench.plugins.where import WHERE, check_where

__all__ = [
    "CLEAN",
    "NORMS",
    "NamedAttack",
    "attack_budgets",
    "eps_budget",
    "load_attack",
    "load_attacks",
]


@dataclass(frozen=True, eq=False)
class NamedAttack:
    """An attack ready to run.

    Attributes:
        label: the canonical spec: the name and those parameters that are not at their default.
        where: the part of the image that it may perturb; None for all of it. See ``where.py``.
    """

    label: str
    attack: Attack
    plugin: registry.Plugin
    where: str | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """Every hyper-parameter, defaults included; and where it may perturb, if not everywhere."""
        own = {f.name.rstrip("_"): getattr(self.attack, f.name) for f in _fields(self.attack)}
        return own if self.where is None else {**own, WHERE: self.where}

    @property
    def parameters_text(self) -> str:
        """The parameters as canonical JSON, as the rows hold them."""
        return json.dumps(self.parameters, sort_keys=True)

    @property
    def libraries(self) -> dict[str, str]:
        """The version of each library whose work its images are."""
        named = self.attack.libraries if isinstance(self.attack, NamesLibraries) else ()
        return {name: version(name) for name in named}


def load_attack(text: str) -> NamedAttack:
    """The attack of a spec such as ``pgd:steps=40``, or ``my.py:Mine:steps=40`` of the user's own.

    Raises:
        UserError: no such attack, or a parameter it does not have or cannot take.
        MachineError: the plug-in does not import, breaks while it is made, or breaks its contract.
    """
    if own := own_attack(text):
        with own_plugin(own) as plugin:
            return _make(plugin, spec.parse_parameters(own.parameters, text))
    try:
        parsed = spec.parse(text)
    except UserError as error:
        raise UserError(f"{error}{_meant(text)}") from None
    if parsed.name == CLEAN:
        raise UserError("'clean' is always measured and is not an attack to ask for")
    return _make(registry.load("attacks", parsed.name), parsed.params)


def _meant(text: str) -> str:
    """The tail of an error about a text that is no spec: what to write of one attack in another.

    ``worst:corruption/blur`` names the attack that is searched where a key is expected; "" of an
    attack that runs no other.
    """
    name, _, rest = text.strip().partition(":")
    if not (spec.is_name(name) and registry.is_registered("attacks", name)):
        return ""
    keys = spec.parameters(registry.load("attacks", name).factory)
    if WITHIN not in keys:
        return ""
    inner, _, more = rest.partition(",")
    if not registry.is_registered("attacks", inner.partition(":")[0]):
        return f"; its keys are {', '.join(keys)}"
    with suppress(UserError):
        given = {WITHIN: inner, **spec.parse_parameters(more, text)}
        return f"; write {spec.Spec(name, given)}"
    return f"; write {spec.Spec(name, {WITHIN: inner})},key=value"


def load_attacks(texts: Iterable[str]) -> list[NamedAttack]:
    """The attacks of several texts, in order; two of the user's own never share a name.

    ``a/my.py:Mine`` and ``b/my.py:Mine`` are then ``a/my:Mine`` and ``b/my:Mine``.

    Raises:
        UserError, MachineError: see :func:`load_attack`.
    """
    attacks = [load_attack(text) for text in texts]
    own = {a.plugin.module: a.plugin for a in attacks if a.plugin.own.endswith(".py")}
    names = tell_files_apart({module: plugin.own for module, plugin in own.items()})
    return [_renamed(a, names[a.plugin.module]) if a.plugin.module in own else a for a in attacks]


def _renamed(attack: NamedAttack, stem: str) -> NamedAttack:
    """The same attack of the user's own under a longer name of its file."""
    name = f"{stem}:{attack.plugin.name.rpartition(':')[2]}"
    return NamedAttack(
        _label(name, attack.attack, attack.where),
        attack.attack,
        replace(attack.plugin, name=name),
        attack.where,
    )


def _make(plugin: registry.Plugin, params: Mapping[str, str]) -> NamedAttack:
    """The attack with these parameters, still as text."""
    name, where = plugin.name, params.get(WHERE)
    params = {key: text for key, text in params.items() if key != WHERE}
    values = spec.bind(plugin.factory, spec.Spec(name, params))
    _require(plugin, values)
    try:
        attack = plugin.factory(**values)
        with registry.blame(plugin):
            check_attack(attack)
    except MachineError:
        raise
    except UserError as error:
        if name in str(error):
            raise
        raise UserError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise MachineError(
            f"attack {str(spec.Spec(name, params))!r} of {plugin.distribution} failed to start: "
            f"{type(error).__name__}: {error}"
        ) from error
    if where is not None:
        check_where(where, name, attack)
    if isinstance(attack, RunsAnother):
        _check_inner(name, attack)
    return NamedAttack(_label(name, attack, where), attack, plugin, where)


_LOST: Sequence[tuple[type, str]] = (
    (MovesPrompts, "moves prompts and no pixel"),
    (WarpAttack, "moves the truth along with the image"),
    (FittedAttack, "is fitted on other cases first"),
    (TransferAttack, "takes its images from another network"),
)
"""What the engine does for an attack of a kind, and not for one within another."""


def _check_inner(name: str, attack: RunsAnother) -> None:
    """Refuse an attack within another whose threat would be lost without a word.

    Raises:
        UserError: the engine looks at the outer one alone, which is not of the inner one's kind.
    """
    inner = load_attack(attack.attack)
    target = getattr(inner.attack, "target", None)
    lost = [
        what
        for kind, what in _LOST
        if isinstance(inner.attack, kind) and not isinstance(attack, kind)
    ]
    if inner.where is not None:
        lost.append(f"changes a part of the image alone (where={inner.where})")
    if target is not None and target != getattr(attack, "target", None):
        lost.append(f"leads to a target ({target})")
    if lost:
        raise UserError(
            f"{name}: attack={attack.attack!r} {lost[0]}, which {name} cannot pass on; run it by "
            "itself"
        )


def _require(plugin: registry.Plugin, values: Mapping[str, Any]) -> None:
    """UserError unless every parameter without a default is given."""
    for f in _fields(plugin.factory):
        if f.default is MISSING and f.default_factory is MISSING and f.name not in values:
            key = f.name.rstrip("_")
            kind = spec.describe(spec.parameters(plugin.factory)[key].annotation)
            raise UserError(f"{plugin.name} needs {key}, {kind}: {plugin.name}:{key}=...")


def attack_budgets(attack: NamedAttack, eps: Sequence[Fraction]) -> list[Budget]:
    """What an attack is run at: its own budgets, or every eps but 0, in ascending order.

    Raises:
        UserError: it needs an eps and there is none, or see :func:`eps_budget`.
    """
    if isinstance(attack.attack, BringsBudgets):
        return list(attack.attack.budgets)
    if not eps:
        raise UserError(f"attack {attack.label} needs a budget, for example --eps 2/255,8/255")
    return [eps_budget(attack, value) for value in sorted(set(eps)) if value]


def eps_budget(attack: NamedAttack, eps: Fraction) -> Budget:
    """The budget that ``--eps`` sets for this attack.

    Raises:
        UserError: its budget is not a norm, so eps means nothing to it; or eps is larger than
            the whole range of a pixel.
    """
    kind = attack.attack.budget_kind
    if kind not in NORMS:
        raise UserError(f"attack {attack.label} has a budget of kind {kind}; --eps is for norms")
    if kind == "linf" and eps > 1:
        raise UserError(
            f"eps {float(eps):g} is more than the whole pixel range [0, 1]; "
            f"did you mean {float(eps):g}/255?"
        )
    return Budget(kind, eps)


def _label(name: str, attack: Any, where: str | None) -> str:
    changed = {} if where is None else {WHERE: where}
    unsaid = _unsaid(attack)
    changed |= {
        f.name.rstrip("_"): spell(getattr(attack, f.name))
        for f in _fields(attack)
        if f.name not in unsaid or getattr(attack, f.name) != unsaid[f.name]
    }
    return str(spec.Spec(name, changed))


def _unsaid(attack: Any) -> dict[str, Any]:
    """What its parameters are where nothing is said, as it fills them in itself.

    As they stand in its class, where it cannot be made of nothing.
    """
    defaults = {f.name: f.default for f in _fields(attack) if f.default is not MISSING}
    try:
        plain = type(attack)()
    except Exception:  # it may want what nobody said in any way
        return defaults
    return {name: getattr(plain, name) for name in defaults}


def _fields(attack: Any) -> list[Field[Any]]:
    """The hyper-parameters; every attack plug-in is a dataclass."""
    return [f for f in fields(attack) if f.init]
