"""The source of a plug-in as one hash, so that an edited attack is never taken for the old one.

It is read from the import statements, wherever in a file they stand, and not from what happens to
be imported, so that it is the same in every process. It covers the factory's own file, the files of
the classes it derives from, and what these import, directly or through others:

* of a module in a package, the modules of that top-level package;
* of a single file, the modules of its folder, unless that is where packages are installed;
* of any other package, its modules, wherever Python finds them: on PYTHONPATH, in the working
  directory, or installed to be edited; and the version of one that is installed for good.

The core, what it requires and Python's own do not count: a run's record has their versions. A file
that is no Python, as of an extension module, counts with its bytes; a factory without a file, as
one written in a notebook, counts with its code (see ``bytecode.py``), and with the files that this
refers to.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from importlib.machinery import all_suffixes
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

from segbench.plugins.bytecode import describe_code, describe_made, is_live

_CORE = {"segbench", "torch"}
_REQUIRED = {"PIL", "art", "einops", "jinja2", "monai", "nibabel", "numpy", "pandas", "pyarrow"}
_REQUIRED |= {"click", "filelock", "pydantic", "rich", "safetensors", "scipy"}
_KNOWN_BY_VERSION = _CORE | sys.stdlib_module_names - {"__main__"}
_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class Imported:
    """What modules are in or import: files with their modules' names, and packages' versions."""

    files: dict[Path, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def parts(self) -> list[tuple[str, bytes]]:
        """All of it, each with its name."""
        versions = [(name, text.encode()) for name, text in self.versions.items()]
        return [*versions, *((name, path.read_bytes()) for path, name in self.files.items())]


def source_hash(factory: Any, module: str = "", also: Iterable[Path] = ()) -> str:
    """SHA-256 (hex) of the source of ``factory``, of ``module`` that names it, and of ``also``.

    The name of every module counts with its content; the place of its folder does not.
    """
    modules = {module: factory, **{_module(thing): thing for thing in _classes(factory)}}
    found = Imported()
    parts: list[tuple[str, bytes]] = []
    for name, thing in modules.items():
        if not name or _top(name) in _KNOWN_BY_VERSION:
            continue
        file = _file(name)
        if file and not is_live(sys.modules.get(name)):
            _gather(name, file, found)
        else:
            parts.append((name, _code(found, thing)))
    for path in also:
        found.files.setdefault(path.resolve(), path.stem)
    return _digest([*parts, *found.parts()])


def code_hash(*values: Any) -> str:
    """SHA-256 (hex) of values in memory: what they hold, and the code that they refer to.

    Classes and functions of installed packages count by their names, and their packages' versions.
    """
    found = Imported()
    return _digest([("", _code(found, *values)), *found.parts()])


def made_hash(thing: Any) -> str:
    """SHA-256 (hex) of what makes a class, function or other factory, as far as no file says it.

    "" for a class or function whose code is in files.
    """
    if isinstance(thing, partial):
        return f"{made_hash(thing.func)} {code_hash(thing.args, thing.keywords)}"
    if not isinstance(thing, (type, FunctionType)) or is_live(sys.modules.get(thing.__module__)):
        return code_hash(thing)
    if isinstance(thing, FunctionType) and Path(thing.__code__.co_filename).is_file():
        return ""
    text, modules = describe_made(thing)
    return _digest([("", text.encode()), *imported_by(modules).parts()]) if text else ""


def imported_by(modules: Iterable[str], package: str = "") -> Imported:
    """What imported modules are in and import; of what is installed the version alone.

    ``package`` is one whose modules count, though it may be installed.
    """
    found = Imported()
    for name in sorted(modules):
        file = _file(name)
        if file and _top(name) not in _KNOWN_BY_VERSION and not is_live(sys.modules.get(name)):
            if _top(name) == package or not _is_installed(file):
                _gather(name, file, found)
            else:
                _note_version(_top(name), found)
    return found


def _digest(parts: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(parts):
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _code(found: Imported, *values: Any) -> bytes:
    """What values without a file do; what they refer to of the user's own is added."""
    text, modules = describe_code(*values)
    for name in sorted(modules):
        file = _file(name)
        if file and _top(name) not in _KNOWN_BY_VERSION:
            if _is_installed(file):
                _note_version(_top(name), found)
            else:
                _gather(name, file, found)
    return text.encode()


def _is_installed(file: Path) -> bool:
    """Whether a file lies where packages are installed."""
    return not _INSTALLED.isdisjoint(file.parts)


def _note_version(top: str, found: Imported) -> None:
    """Add the version of an installed package, unless it is one that the core requires."""
    if top not in _REQUIRED:
        for name in _distributions().get(top, ()):
            found.versions[name] = version(name)


@cache
def _distributions() -> dict[str, list[str]]:
    """Of every top-level module the distributions that it is installed by."""
    return {top: sorted({*names}) for top, names in packages_distributions().items()}


def _top(module: str) -> str:
    return module.partition(".")[0]


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
    """Where modules are looked up: a folder, or the places of the package that alone counts."""

    folder: Path
    package: str = ""
    places: tuple[Path, ...] = ()  # its folders, or its file without the ending

    def find(self, module: str) -> Path | None:
        """The file of a module such as ``a.b``; None where none that counts has the name."""
        top, *rest = module.split(".")
        if top in _CORE or self.package not in ("", top):
            return None
        for root in self.places or (self.folder / top,):
            place = root.joinpath(*rest)
            files = [place / "__init__.py", *(Path(f"{place}{end}") for end in all_suffixes())]
            if file := next((file for file in files if file.is_file()), None):
                return file.resolve()
        return None


def _gather(name: str, file: Path, found: Imported) -> None:
    """Add a module's file, and those that it imports, with their modules' names."""
    parts = name.split(".")
    is_package = file.stem == "__init__"
    if len(parts) > 1 or is_package:
        root = file.parents[len(parts) - 2 + is_package]
        home = _Home(root.parent, parts[0], (root,))
    else:
        name = file.name.partition(".")[0]  # however it was imported
        home = _Home(file.parent, name if file.parent.name in _INSTALLED else "")
    waiting, others = [(name, file, home)], dict[str, _Home | None]()
    while waiting:
        module, path, home = waiting.pop()
        if path in found.files:
            continue
        found.files[path] = module
        for other in sorted({*_with_packages(module), *_imports(module, path)}):
            if there := home.find(other):
                waiting.append((other, there, home))
            elif (top := _top(other)) != home.package and top not in _KNOWN_BY_VERSION:
                if top not in others:
                    others[top] = _home_of(top, found)
                away = others[top]
                if away and (there := away.find(other)):
                    waiting.append((other, there, away))


def _home_of(top: str, found: Imported) -> _Home | None:
    """Where Python finds another package; None, its version noted, where that is installed."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None  # a stand-in; whoever imports from it finds out
    if spec is None:
        return None
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if not places and file:
        places = [file.with_name(file.name.partition(".")[0])]
    if not places or any(_is_installed(place.resolve()) for place in places):
        _note_version(top, found)
        return None
    return _Home(places[0].parent, top, tuple(places))


def _imports(module: str, path: Path) -> Iterator[str]:
    """The names of all modules that a file may import."""
    if path.suffix != ".py":
        return
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    yield from _imported(path.read_bytes(), tuple(package))


@lru_cache(maxsize=1024)
def _imported(content: bytes, package: tuple[str, ...]) -> tuple[str, ...]:
    """The names of all modules that a file of a package may import; none where it is no Python."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return ()  # whoever imports it finds out
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= dict.fromkeys(_with_packages(alias.name))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = [*above, *([node.module] if node.module else [])]
            for alias in node.names:  # each a module, or a name in one
                found |= dict.fromkeys(_with_packages(".".join([*base, alias.name])))
    return tuple(found)


def _with_packages(module: str) -> list[str]:
    """``a.b.c`` to ``a``, ``a.b`` and ``a.b.c``, all of which are imported with it."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
