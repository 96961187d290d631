"""What a class or function does, as text, where there is no file to read, as in a notebook.

The text is the same for the same code in every process of one Python; it changes with the code, and
with that of what it calls and the values it reads in its own module. Comments and the names of
local variables make no difference. The program that runs counts as such a module, though it may
have a file: a script is edited for other reasons than the class in it.
"""

from __future__ import annotations

import argparse
import dis
import enum
import functools
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from segbench.plugins.tensor_bytes import tensor_bytes

HOLDERS = (SimpleNamespace, argparse.Namespace, enum.Enum)
"""Of Python's own objects those that hold values; others, such as loggers, hold their state."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def describe_code(*values: Any) -> tuple[str, set[str]]:
    """Values and all that they refer to: as text, and the names of the modules that have a file.

    Numbers, text, tensors, arrays and collections count by what they hold, classes and functions
    by their code, or by their name where their module has a file; so do objects of classes of the
    user's own, and those that are there to hold values. Any other object counts by its class alone.
    """
    found = _Found()
    for value in values:
        found.add(value, "")
    return "\n".join(sorted(found.parts)), found.modules


def describe_made(one: type | FunctionType) -> tuple[str, set[str]]:
    """The same of a class or function that was made at run time, whatever file its module has.

    Of a class whose code is in files nothing is said.
    """
    found = _Found(made=True)
    if isinstance(one, FunctionType):
        found.add_function(one)
    elif any(_is_made(member) for member in vars(one).values()):
        found.add_class(one)
    return "\n".join(sorted(found.parts)), found.modules


def _is_made(member: Any) -> bool:
    return isinstance(member, FunctionType) and not Path(member.__code__.co_filename).is_file()


class _Found:
    """All that has been met on the way from some values.

    Args:
        made: whether functions without a file count by their code, though their module has one.
    """

    def __init__(self, *, made: bool = False) -> None:
        self._made = made
        self.parts: set[str] = set()
        self.modules: set[str] = set()
        self._seen: dict[int, Any] = {}  # kept, so that no id is used twice

    def add(self, value: Any, name: str) -> None:
        """A value, under the name by which it is known where it was met."""
        if isinstance(value, _PLAIN):
            self.parts.add(f"{name}={value!r}")
            return
        self.parts.add(f"{name} is {_label(value)}")
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            self._add_object(value, name)

    def _add_object(self, value: Any, name: str) -> None:
        if isinstance(value, ModuleType):
            self.modules.add(value.__name__)
        elif isinstance(value, (type, FunctionType)):
            self._add_definition(value)
        elif is_array(value):
            self.parts.add(f"{name}={describe_numbers(value)}")
        elif isinstance(value, (set, frozenset)):
            for item in value:
                self.add(item, f"{name} holds")
        elif isinstance(value, (tuple, list)):
            for n, item in enumerate(value):
                self.add(item, f"{name}[{n}]")
        elif isinstance(value, dict):
            for n, (key, item) in enumerate(value.items()):
                self.add(key, f"{name} key {n}")
                self.add(item, f"{name}[{key if isinstance(key, _PLAIN) else n!r}]")
        elif _holds_values(value):
            for key, item in held_values(value):
                self.add(item, f"{name}.{key}")
        else:
            self.add(_wrapped(value), name)

    def _add_definition(self, one: type | FunctionType) -> None:
        by_code = self._made and _is_made(one)
        if not by_code and not is_live(sys.modules.get(one.__module__ or "")):
            self.modules.add(one.__module__)
        elif isinstance(one, FunctionType):
            self.add_function(one)
        else:
            self.add_class(one)

    def add_class(self, one: type) -> None:
        """A class by its code, and what it derives from."""
        for base in one.__bases__:
            self.add(base, "")
        for name, member in vars(one).items():
            dunder = name.startswith("__") and name.endswith("__")
            if not dunder or isinstance(member, FunctionType):
                self.add(member, f"{one.__qualname__}.{name}")

    def add_function(self, one: FunctionType) -> None:
        """A function by its code, and what it refers to."""
        self.parts.add(f"{one.__qualname__}:{_code(one.__code__)}")
        wrapped = getattr(one, "__wrapped__", None)
        self.add((one.__defaults__, one.__kwdefaults__, wrapped), one.__qualname__)
        for name, cell in zip(one.__code__.co_freevars, one.__closure__ or (), strict=True):
            if cell != CellType():  # one without content, of a name that is not bound yet
                self.add(cell.cell_contents, name)
        for name in sorted(_globals(one.__code__)):
            if name in one.__globals__:
                self.add(one.__globals__[name], name)


def _wrapped(value: Any) -> Any:
    """What an object of Python's own wraps; nothing of any other."""
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        return value.__func__
    if isinstance(value, property):
        return value.fget, value.fset, value.fdel
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, functools._lru_cache_wrapper):
        return value.__wrapped__
    if type(value).__module__ == "torch":  # a dtype or a device
        return str(value)
    return None


def held_values(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, by name."""
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    yield from sorted((found | getattr(value, "__dict__", {})).items())


def _slots(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    return tuple(name for name in names if not name.startswith("__"))


def _holds_values(value: Any) -> bool:
    """Whether an object is there to hold values, or its class has no file."""
    own = is_live(sys.modules.get(type(value).__module__))
    return own or isinstance(value, HOLDERS) or is_dataclass(value)


def _code(code: CodeType) -> str:
    """Instructions and constants, whatever line and file they are in."""
    constants = ",".join(map(_constant, code.co_consts))
    return f"{code.co_code.hex()} {code.co_exceptiontable.hex()} {code.co_names} {constants}"


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, frozenset):  # whose order is another in every process
        return str(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return f"({','.join(map(_constant, value))})"
    return repr(value)


def _globals(code: CodeType) -> set[str]:
    """The names that the code, or code within it, looks up in its module."""
    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return own.union(*map(_globals, inner))


def is_array(value: Any) -> bool:
    """Whether it is a tensor or an array, and no frame or picture that can become one."""
    numbers = hasattr(type(value), "__array__") and hasattr(value, "dtype")
    return numbers and (hasattr(value, "detach") or hasattr(value, "tobytes"))


def describe_numbers(array: Any) -> str:
    """The shape, type and bytes of a tensor or an array."""
    shape, kind = tuple(array.shape), array.dtype
    numbers = tensor_bytes(array) if hasattr(array, "detach") else array.tobytes()
    return f"{shape} {kind} {hashlib.sha256(numbers).hexdigest()}"


def _label(value: Any) -> str:
    """The name of a class or function; of any other object, that of its class."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', None)}.{named.__qualname__}"


def is_live(module: ModuleType | None) -> bool:
    """Whether no file says what its classes and functions are now."""
    if module is None or module.__name__ == "__main__":
        return True
    standard = module.__name__.partition(".")[0] in sys.stdlib_module_names
    return getattr(module, "__file__", None) is None and not standard
