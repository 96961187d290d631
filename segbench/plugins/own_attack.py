"""Attacks of the user's own: a class in a file or module of theirs, on equal terms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from segbench.errors import UserError
from segbench.plugins import registry
from segbench.plugins.contract import check_factory
from segbench.plugins.naming import WITHIN, tell_files_apart
from segbench.plugins.own_code import OwnCode, read_own
from segbench.plugins.registry import Plugin
from segbench.plugins.siblings import Modules, files_of, importable, known
from segbench.plugins.source import source_hash
from segbench.plugins.spec import parse

_kept: dict[tuple[str, str, str], tuple[Plugin, Modules, str]] = {}


def own_attack(text: str) -> OwnCode | None:
    """The user's own class that an attack's text means; None where it is a spec.

    What begins with the name of an installed attack is a spec of that.
    """
    own = read_own("attack", text)
    name = text.strip().partition(":")[0]
    if own and not name.endswith(".py") and registry.is_registered("attacks", name):
        return None
    return own


def own_modules(texts: Iterable[str]) -> list[str]:
    """The files and modules of the user's own that loading these attacks runs, each once."""
    found = []
    for text in texts:
        own = own_attack(text)
        if own is None:  # of a transfer, the attack on the source
            with suppress(UserError):  # whoever loads it says what is wrong
                own = own_attack(parse(text).params.get(WITHIN, ""))
        if own:
            found.append(own.module)
    return list(dict.fromkeys(found))


@contextmanager
def own_plugin(own: OwnCode) -> Iterator[Plugin]:
    """The class as a plug-in; while this is open its module's siblings can be imported.

    It is read once, and again when its file or one beside it that it imported has changed.

    Raises:
        UserError: see ``OwnCode.find``.
        MachineError: it breaks the contract of attacks.
    """
    key = (str(own.folder.resolve()), own.module_name, own.member)
    if key in _kept:
        plugin, modules, content = _kept[key]
        if _content(own, modules) == content:
            with known(modules):
                yield plugin
            return
    with importable(own.folder) as imported:
        plugin = _load(own, imported)
        yield plugin
        _kept[key] = plugin, imported(), _content(own, imported())


def _load(own: OwnCode, imported: Callable[[], Modules]) -> Plugin:
    factory = own.find()
    digest = source_hash(factory, own.module_name, files_of(imported()))
    place, name = (own.path.name, _file_name(own)) if own.path else (own.module, own.name)
    plugin = Plugin(
        "attacks", name, factory, place, digest[:12], own.module_name, own.module, digest
    )
    with registry.blame(plugin):
        check_factory("attacks", factory)
    return plugin


def _file_name(own: OwnCode) -> str:
    """``my:Mine`` for ``attacks/my.py:Mine``."""
    [stem] = tell_files_apart({"": own.module}).values()
    return f"{stem}:{own.member}"


def _content(own: OwnCode, modules: Modules) -> str:
    """SHA-256 (hex) of the files that were read from the folder."""
    files = [*files_of(modules), *([own.path] if own.path else [])]
    digest = hashlib.sha256()
    for file in sorted({file.resolve() for file in files}):
        content = file.read_bytes() if file.is_file() else b"gone"
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
