"""The modules beside a file of the user's: importable while it is loaded, as beside a script.

Afterwards they are no longer known by their names, so that two files in two folders may each have a
``net.py`` beside them, and neither hides a module of anyone else's. What the file, or one beside
it, imports only when it runs is found all the same: its import statements look there first.
"""

from __future__ import annotations

import builtins
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

Modules = Mapping[str, ModuleType]
"""Imported modules by the names in ``sys.modules``."""

_one_at_a_time = threading.RLock()  # of several folders, one has its modules there


@contextmanager
def importable(folder: Path) -> Iterator[Callable[[], Modules]]:
    """Modules of ``folder`` come first while this is open.

    Yields:
        what gives those that have been imported from it until then.
    """
    folder = folder.resolve()
    beside = _modules_of(folder)
    hidden = _take_out(lambda top: top in beside and _is_hiding(top, folder))
    before = {_top(name) for name in list(sys.modules)}

    def is_sibling(top: str) -> bool:
        return top not in before and _lies_in(folder, top)

    def imported() -> Modules:
        return {name: module for name, module in sys.modules.items() if is_sibling(_top(name))}

    live = {top for top in beside & before if _lies_in(folder, top)}  # there is one of each
    finder = _Finder(folder, _Beside(folder, beside - live))
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, finder)
    importlib.invalidate_caches()  # a file may be newer than what the finder remembers
    try:
        yield imported
    finally:
        sys.meta_path.remove(finder)
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        finder.beside.keep(_take_out(is_sibling))
        sys.modules.update(hidden)


def run_beside(module: ModuleType) -> None:
    """Have a module that is about to be run look for imports in the folder that is importable."""
    finder = next((one for one in sys.meta_path if isinstance(one, _Finder)), None)
    if finder:
        vars(module)["__builtins__"] = finder.beside.builtins


class _Beside:
    """The import statement of code in one folder, for as long as the code lives.

    Args:
        folder: it.
        names: of the modules and packages in it.
    """

    def __init__(self, folder: Path, names: set[str]) -> None:
        self._folder, self._names = folder, names - sys.stdlib_module_names
        self._modules: dict[str, ModuleType] = {}
        self._is_open = True
        self.builtins = {**vars(builtins), "__import__": self._import}

    def keep(self, modules: Modules) -> None:
        """From now on these are known here alone."""
        self._modules, self._is_open = dict(modules), False

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """See ``builtins.__import__``."""
        package = (globals or {}).get("__package__") or ""
        full = resolve_name("." * level + name, package) if level and package else name
        own = _top(full) in self._names or _top(full) in self._modules
        if self._is_open or not own:
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = self._modules.get(full)
        if module and all(hasattr(module, part) for part in fromlist or ()):
            return module if fromlist else self._modules[_top(full)]
        with _one_at_a_time, self._known():
            return builtins.__import__(name, globals, locals, fromlist, level)

    @contextmanager
    def _known(self) -> Iterator[None]:
        """The folder's modules are known by their names, and others of it can be imported."""
        tops = self._names | {_top(name) for name in self._modules}
        hidden = _take_out(lambda top: top in tops)
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self._folder))
        finder = _Finder(self._folder, self)
        sys.meta_path.insert(0, finder)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            sys.path.remove(str(self._folder))
            self._modules = _take_out(lambda top: top in tops)
            sys.modules.update(hidden)


class _Finder:
    """Finds the modules of a folder, and has them look there for what they import."""

    def __init__(self, folder: Path, beside: _Beside) -> None:
        self._folder, self.beside = folder, beside

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """That of a module of Python in the folder; None of others, which are found as always."""
        if path is not None and not _lies_in(self._folder, _top(name)):
            return None
        spec = PathFinder.find_spec(name, [str(self._folder)] if path is None else path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path, self.beside)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module with the import statement of its folder."""

    def __init__(self, name: str, path: str, beside: _Beside) -> None:
        super().__init__(name, path)
        self._beside = beside

    def exec_module(self, module: ModuleType) -> None:
        """As any, but for its imports."""
        vars(module)["__builtins__"] = self._beside.builtins
        super().exec_module(module)


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
    tops = {top for top in map(_top, list(sys.modules)) if chosen(top)}
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
