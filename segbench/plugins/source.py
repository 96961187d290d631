"""The source of a plug-in as one hash, so that an edited attack is never taken for the old one.

It is read from the import statements, wherever in a file they stand, and not from what happens to
be imported, so that it is the same in every process. It covers the factory's own file, the files of
the classes it derives from, and what these import, directly or through others:

* of a module in a package, the modules of that top-level package;
* of a single file, the modules of its folder, unless that is where packages are installed.

Other packages, the core and Python's own are known by their versions. A file that is no Python, as
of an extension module, counts with its bytes; a factory without a file, as one written in a
notebook, counts with its code (see ``bytecode.py``), and with the files that this refers to.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from segbench.plugins.bytecode import describe_code, is_live

_CORE = {"segbench", "torch"}
_KNOWN_BY_VERSION = _CORE | sys.stdlib_module_names - {"__main__"}
_INSTALLED = {"site-packages", "dist-packages"}


def source_hash(factory: Any, module: str = "", also: Iterable[Path] = ()) -> str:
    """SHA-256 (hex) of the source of ``factory``, of ``module`` that names it, and of ``also``.

    The name of every module counts with its content; the place of its folder does not.
    """
    modules = {module: factory, **{_module(thing): thing for thing in _classes(factory)}}
    files: dict[Path, str] = {}
    parts: list[tuple[str, bytes]] = []
    for name, thing in modules.items():
        if not name or name.partition(".")[0] in _KNOWN_BY_VERSION:
            continue
        file = _file(name)
        if file and not is_live(sys.modules.get(name)):
            _gather(name, file, files)
        else:
            parts.append((name, _code(files, thing)))
    for file in also:
        files.setdefault(file.resolve(), file.stem)
    return _digest(parts, files)


def code_hash(*values: Any) -> str:
    """SHA-256 (hex) of values in memory: what they hold, and the code that they refer to.

    Classes and functions of installed packages count by their names alone.
    """
    files: dict[Path, str] = {}
    return _digest([("", _code(files, *values))], files)


def _digest(parts: Iterable[tuple[str, bytes]], files: Mapping[Path, str]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted([*parts, *((n, path.read_bytes()) for path, n in files.items())]):
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _code(files: dict[Path, str], *values: Any) -> bytes:
    """What values without a file do; the files of the user's own that they refer to are added."""
    text, modules = describe_code(*values)
    for name in sorted(modules):
        file = _file(name)
        known = name.partition(".")[0] in _KNOWN_BY_VERSION
        if file and not known and _INSTALLED.isdisjoint(file.parts):
            _gather(name, file, files)
    return text.encode()


def _file(module: str) -> Path | None:
    """The file of an imported module, if it has one."""
    path = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    return path.resolve() if path.is_file() else None


def _classes(factory: Any) -> list[Any]:
    """A class and those it derives from; of a function, the one that is wrapped."""
    while isinstance(factory, partial):
        factory = factory.func
    return (
        list(reversed(factory.__mro__)) if isinstance(factory, type) else [inspect.unwrap(factory)]
    )


def _module(thing: Any) -> str:
    """The name of the module that something is defined in."""
    return getattr(thing, "__module__", None) or type(thing).__module__


@dataclass(frozen=True)
class _Home:
    """Where modules are looked up: a folder, and the package in it that alone counts, if any."""

    folder: Path
    package: str = ""

    def find(self, module: str) -> Path | None:
        """The file of a module such as ``a.b``; None where none that counts has the name."""
        top = module.partition(".")[0]
        if top in _CORE or self.package not in ("", top):
            return None
        place = self.folder.joinpath(*module.split("."))
        files = [place / "__init__.py", *(Path(f"{place}{suffix}") for suffix in all_suffixes())]
        return next((file.resolve() for file in files if file.is_file()), None)


def _gather(name: str, file: Path, found: dict[Path, str]) -> None:
    """Add a module's file, and those of its home that it imports, with their modules' names."""
    parts = name.split(".")
    is_package = file.stem == "__init__"
    if len(parts) > 1 or is_package:
        home = _Home(file.parents[len(parts) - (not is_package)], parts[0])
    else:
        name = file.name.partition(".")[0]  # however it was imported
        home = _Home(file.parent, name if file.parent.name in _INSTALLED else "")
    waiting = [(name, file)]
    while waiting:
        module, path = waiting.pop()
        if path not in found:
            found[path] = module
            names = {*_with_packages(module), *_imports(module, path)}
            waiting += [(other, there) for other in sorted(names) if (there := home.find(other))]


def _imports(module: str, path: Path) -> Iterator[str]:
    """The names of all modules that a file may import."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # whoever imports it finds out
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            for alias in node.names:  # each a module, or a name in one
                yield from _with_packages(".".join([*base, alias.name]))


def _with_packages(module: str) -> list[str]:
    """``a.b.c`` to ``a``, ``a.b`` and ``a.b.c``, all of which are imported with it."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
