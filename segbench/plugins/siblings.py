"""The modules beside a file of the user's: importable while it is loaded, as beside a script.

Afterwards they are no longer known by their names, so that two files in two folders may each have a
``net.py`` beside them, and neither hides a module of anyone else's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

Modules = Mapping[str, ModuleType]
"""Imported modules by the names in ``sys.modules``."""


@contextmanager
def importable(folder: Path) -> Iterator[Callable[[], Modules]]:
    """Modules of ``folder`` come first while this is open.

    Yields:
        what gives those that have been imported from it until then.
    """
    folder = folder.resolve()
    beside = _modules_of(folder)
    hidden = _take_out(lambda top: top in beside and _is_hiding(top, folder))
    before = {_top(name) for name in sys.modules}

    def is_sibling(top: str) -> bool:
        return top not in before and _lies_in(folder, top)

    def imported() -> Modules:
        return {name: module for name, module in sys.modules.items() if is_sibling(_top(name))}

    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a file may be newer than what the finder remembers
    try:
        yield imported
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        _take_out(is_sibling)
        sys.modules.update(hidden)


@contextmanager
def known(modules: Modules) -> Iterator[None]:
    """Modules that were imported from a folder are known by their names while this is open."""
    tops = {_top(name) for name in modules}
    hidden = _take_out(lambda top: top in tops)
    sys.modules.update(modules)
    try:
        yield
    finally:
        _take_out(lambda top: top in tops)
        sys.modules.update(hidden)


def files_of(modules: Modules) -> list[Path]:
    """The files of modules that have one."""
    paths = (getattr(module, "__file__", None) for module in modules.values())
    return [Path(path) for path in paths if path]


def _take_out(chosen: Callable[[str], bool]) -> dict[str, ModuleType]:
    """Modules whose top-level name is chosen, which are then imported no more."""
    tops = {top for top in map(_top, sys.modules) if chosen(top)}
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _top(name) in tops}


def _modules_of(folder: Path) -> set[str]:
    """The names of the modules and packages in a folder."""
    files = {path.stem for path in folder.glob("*.py")}
    return files | {path.parent.name for path in folder.glob("*/__init__.py")}


def _is_hiding(top: str, folder: Path) -> bool:
    """Whether an imported module that is named like one in the folder is another."""
    standard = top in sys.stdlib_module_names or top == "__main__"
    return not standard and not _lies_in(folder, top)


def _lies_in(folder: Path, top: str) -> bool:
    """Whether an imported module is the folder's file, or package, of that name."""
    module = sys.modules.get(top)
    packages = [Path(path) for path in getattr(module, "__path__", ())]
    file = getattr(module, "__file__", None)
    places = packages or ([Path(file)] if file else [])
    return any(p.resolve().parent == folder and p.name.partition(".")[0] == top for p in places)


def _top(name: str) -> str:
    return name.partition(".")[0]
