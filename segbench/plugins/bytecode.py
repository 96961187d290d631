"""What a class or function does, as text, where there is no file to read, as in a notebook.

The text is the same for the same code in every process of one Python; it changes with the code, and
with that of what it calls and the constants it reads in its own module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

_PLAIN = (int, float, complex, str, bytes, type(None), type(...))
_NOT_CODE = {"__doc__", "__firstlineno__", "__static_attributes__"}


def describe_code(thing: Any) -> str:
    """Every constant and every instruction of a class or a function of one module."""
    return _describe(thing, getattr(thing, "__module__", ""), set())


def _describe(thing: Any, home: str, seen: set[int]) -> str:
    if isinstance(thing, _PLAIN):
        return repr(thing)
    if isinstance(thing, CodeType):
        constants = _each(thing.co_consts, home, seen)
        return f"{thing.co_code.hex()} {thing.co_names} {constants}"
    if isinstance(thing, (staticmethod, classmethod)):
        return _describe(thing.__func__, home, seen)
    if isinstance(thing, property):
        return _each([thing.fget, thing.fset], home, seen)
    if isinstance(thing, (FunctionType, type)):
        name = f"{thing.__module__}.{thing.__qualname__}"
        if thing.__module__ != home or id(thing) in seen:
            return name
        seen.add(id(thing))
        return f"{name} {_each(_parts(thing), home, seen)}"
    if isinstance(thing, (set, frozenset)):
        return str(sorted(_describe(item, home, seen) for item in thing))
    if isinstance(thing, Mapping):
        return _each([part for item in thing.items() for part in item], home, seen)
    if isinstance(thing, (tuple, list)):
        return _each(thing, home, seen)
    return thing.__name__ if isinstance(thing, ModuleType) else type(thing).__qualname__


def _each(things: Iterable[Any], home: str, seen: set[int]) -> str:
    return f"({', '.join(_describe(thing, home, seen) for thing in things)})"


def _parts(thing: Any) -> list[Any]:
    """What a class holds; a function's code, defaults, closure and the globals that it names."""
    if isinstance(thing, type):
        return [
            part
            for item in sorted(vars(thing).items())
            if item[0] not in _NOT_CODE
            for part in item
        ]
    inside = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
    used = [thing.__globals__.get(name) for name in sorted(_names(thing.__code__))]
    return [thing.__code__, thing.__defaults__, thing.__kwdefaults__, *inside, *used]


def _names(code: CodeType) -> set[str]:
    """The globals and attributes that a function and those within it name."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _is_filled(cell: Any) -> bool:
    """Whether a variable of a closure has been assigned yet."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
