"""Names to plug-ins, lazily, over entry points.

A plug-in is any object that an installed distribution declares under one of the five groups, for
example ``[project.entry-points."segbench.attacks"]``. Built-in and foreign plug-ins are on equal
terms; nothing is imported before it is asked for by name.

A *family* stands for many plug-ins of another library: its entry point is named ``NAME/*`` and is
a function from a member's name to a plug-in. ``load("models", "monai/UNet")`` gives ``"UNet"`` to
the family ``monai/*``; it raises ValueError for a member that it does not have.

``register`` adds a plug-in of this process, such as a notebook's, on the same terms.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from segbench.errors import ContractError, MachineError, UserError
from segbench.plugins.bytecode import is_live
from segbench.plugins.contract import KINDS, Kind, check_factory, check_name
from segbench.plugins.source import source_hash
from segbench.plugins.suggest import suggest

__all__ = [
    "KINDS",
    "Kind",
    "Plugin",
    "blame",
    "families",
    "is_registered",
    "load",
    "load_family",
    "names",
    "register",
    "suggest",
]

_ANY = "/*"


@dataclass(frozen=True)
class Plugin:
    """A loaded plug-in and where it came from; the provenance is part of every cell's key.

    Attributes:
        factory: the class or function that makes it; of a report, the function that writes it.
        module: the name of the module in which it was looked up.
        own: the file or module of the user's own that it is in; "" for what is installed.
        digest: its source, where that was hashed as it was read; see ``source``.
    """

    kind: Kind
    name: str
    factory: Callable[..., Any]
    distribution: str
    version: str
    module: str = ""
    own: str = ""
    digest: str = ""

    @property
    def source(self) -> str:
        """SHA-256 (hex) of its source and of what it imports from its own package or folder.

        Of a notebook's as it is now: what its code reads may be another than when it was written.
        """
        live = not self.own and is_live(sys.modules.get(self.module))
        return source_hash(self.factory, self.module) if live else self._source

    @cached_property
    def _source(self) -> str:
        return self.digest or source_hash(self.factory, self.module)


def names(kind: Kind) -> list[str]:
    """All registered names of a kind, sorted, without importing any; families left out."""
    found = {*_points(kind), *_registered[kind]}
    return sorted(name for name in found if not name.endswith(_ANY))


def families(kind: Kind) -> list[str]:
    """The registered families of a kind, such as ``monai``, sorted, without importing any."""
    return sorted(name.removesuffix(_ANY) for name in _points(kind) if name.endswith(_ANY))


def is_registered(kind: Kind, name: str) -> bool:
    """Whether there is a plug-in of that name, or a family that may have it as a member."""
    family, slash, _ = name.partition("/")
    known = name in _points(kind) or name in _registered[kind]
    return known or (bool(slash) and f"{family}{_ANY}" in _points(kind))


def load_family(kind: Kind, name: str) -> Plugin:
    """The family itself: its factory turns a member's name into a plug-in's factory."""
    plugin = _load_point(kind, name + _ANY)
    with blame(plugin):
        check_name(kind, name)
        if not callable(plugin.factory):
            raise ContractError(f"it is a {type(plugin.factory).__name__}; expected a function")
    return plugin


def register(plugin: Plugin) -> None:
    """Make a plug-in known for the rest of this process.

    One of the same module and qualified name takes the place of the last, as when the cell of a
    notebook is run again.

    Raises:
        UserError: the name is claimed by another plug-in.
        MachineError: it breaks its contract.
    """
    kind, name = plugin.kind, plugin.name
    with blame(plugin):
        check_name(kind, name)
        check_factory(kind, plugin.factory)
    claims = [(_owner(point)[0], point.value) for point in _points(kind).get(name, ())]
    if name in _registered[kind]:
        claims.append((_registered[kind][name].distribution, _value(_registered[kind][name])))
    others = {claim for claim in claims if claim[1] != _value(plugin)}
    if others:
        owners = _listed({*others, (plugin.distribution, _value(plugin))})
        raise UserError(
            f"the {kind[:-1]} {name!r} is claimed by more than one package: {owners}; "
            "register it under another name"
        )
    _registered[kind][name] = plugin
    load.cache_clear()


@cache
def load(kind: Kind, name: str) -> Plugin:
    """The plug-in of that name, once it is known to be one.

    Raises:
        UserError: the name is unknown (the nearest valid one is suggested), or two distributions
            claim it.
        MachineError: the plug-in is installed but does not import, or breaks its contract.
    """
    family, slash, member = name.partition("/")
    if slash and family in families(kind):
        plugin = _load_member(kind, name, family, member)
    else:
        plugin = _load_point(kind, name)
    with blame(plugin):
        check_name(kind, name)
        check_factory(kind, plugin.factory)
    return plugin


@contextmanager
def blame(plugin: Plugin) -> Iterator[None]:
    """Name the plug-in where its contract turns out to be broken.

    Raises:
        MachineError: the plug-in, its package, and what is broken.
    """
    try:
        yield
    except ContractError as error:
        raise MachineError(
            f"the {plugin.kind[:-1]} {plugin.name!r} of {plugin.distribution} breaks its contract: "
            f"{error}"
        ) from error


def _load_member(kind: Kind, name: str, family: str, member: str) -> Plugin:
    """What a family has under a member's name."""
    plugin = load_family(kind, family)
    try:
        factory = plugin.factory(member)
    except ValueError as error:
        raise UserError(f"unknown {kind[:-1]} {name!r}: {error}") from error
    return replace(plugin, name=name, factory=factory)


def _load_point(kind: Kind, name: str) -> Plugin:
    """The object behind an entry point."""
    if name in _registered[kind]:
        return _registered[kind][name]
    points = _points(kind)
    if name not in points:
        known = {*points, *_registered[kind]}
        raise UserError(f"unknown {kind[:-1]} {name!r}{suggest(name, known)}")
    claims = points[name]
    if len({point.value for point in claims}) > 1:
        owners = _listed((_owner(point)[0], point.value) for point in claims)
        raise UserError(
            f"the {kind[:-1]} {name!r} is claimed by more than one package: {owners}; "
            "uninstall all but one"
        )
    point = claims[0]
    try:
        factory = point.load()
    except (Exception, SystemExit) as error:  # what a module does when it is imported is its own
        raise MachineError(
            f"the {kind[:-1]} {name!r} of {_owner(point)[0]} does not import "
            f"({point.value}): {type(error).__name__}: {error}"
        ) from error
    return Plugin(kind, name, factory, *_owner(point), point.module)


_registered: dict[Kind, dict[str, Plugin]] = {kind: {} for kind in KINDS}


def _value(plugin: Plugin) -> str:
    """Where its factory is defined, as an entry point says it."""
    return f"{plugin.factory.__module__}:{plugin.factory.__qualname__}"


def _listed(claims: Iterable[tuple[str, str]]) -> str:
    return ", ".join(sorted(f"{owner} ({value})" for owner, value in claims))


@cache
def _points(kind: Kind) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"segbench.{kind}"):
        found.setdefault(point.name, []).append(point)
    return found


def _owner(point: EntryPoint) -> tuple[str, str]:
    dist = point.dist
    return (dist.name, dist.version) if dist else ("unknown", "0")
