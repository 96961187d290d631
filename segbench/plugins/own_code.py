"""Code of the user's own, by text: ``path.py:NAME`` or ``module:NAME``, as in ``net.py:build``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from segbench.errors import UserError
from segbench.plugins.siblings import run_beside
from segbench.plugins.suggest import suggest

_FORM = re.compile(r'(?P<module>[^"]+?\.py|[A-Za-z_][\w.]*):(?P<member>[A-Za-z_]\w*)(?::(.+))?')


@dataclass(frozen=True)
class OwnCode:
    """A class or function of the user's own.

    Attributes:
        what: the word for it in errors, ``model`` or ``attack``.
        module: a file, as its path is written, or a module's name.
        parameters: what follows the name, ``steps=10``; "" for nothing.
    """

    what: str
    module: str
    member: str
    parameters: str = ""

    @property
    def path(self) -> Path | None:
        """The file, where it is one that is named."""
        return Path(self.module) if self.module.endswith(".py") else None

    @property
    def name(self) -> str:
        """For example ``unet16:build`` for ``networks/unet16.py:build``."""
        return f"{self.path.stem if self.path else self.module}:{self.member}"

    @property
    def folder(self) -> Path:
        """Whose modules may be imported: those beside the file, or of the working directory."""
        return self.path.parent if self.path else Path()

    def find(self) -> Any:
        """The object itself, its module imported; see ``siblings.importable``.

        Raises:
            UserError: the module does not import, or has no such class or function.
        """
        module = _import_file(self.what, self.path) if self.path else self._import_module()
        found = getattr(module, self.member, None)
        if not callable(found):
            valid = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            kind = "factory" if self.what == "model" else self.what
            hint = suggest(self.member, valid)
            raise UserError(f"{self.module} has no {kind} {self.member!r}{hint}")
        return found

    @property
    def module_name(self) -> str:
        """What its module is called in ``sys.modules``."""
        return _module_name(self.path) if self.path else self.module

    def _import_module(self) -> ModuleType:
        try:
            return importlib.import_module(self.module)
        except (Exception, SystemExit) as error:  # what a module does when imported is its own
            raise UserError(
                f"{self.what} {self.module}:{self.member}: the module {self.module} does not "
                f"import: {error}"
            ) from error


def read_own(what: str, text: str) -> OwnCode | None:
    """The user's own code that a text means; None where it is not of that form.

    ``my.py:Mine:steps=10`` is; ``pgd:steps=10`` is not, nor is a spec with code within quotes.
    """
    match = _FORM.fullmatch(text.strip())
    return OwnCode(what, match[1], match[2], match[3] or "") if match else None


def _module_name(path: Path) -> str:
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    return f"segbench_user_{path.stem}_{place[:8]}"


def _import_file(what: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"{what} file {path} does not exist")
    name = _module_name(path)
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    run_beside(module)
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{what} file {path} does not import: {error}") from error
    return module
