"""Spec text to values: ``pgd:steps=40,restarts=5`` and ``8/255``; the only parser of such text.

Grammar: ``name`` or ``family/name``, then optionally ``:key=value,key=value``. ``name@1`` is short
for ``name:version=1``, as suites are cited whose versions are frozen. A value may be
quoted with ``"`` and may then hold commas, colons and a whole spec of its own. Values are typed by
the plug-in's own parameters, so a plug-in's signature is its documentation and its validation.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from segbench.errors import UserError
from segbench.plugins.suggest import suggest

_NAME = re.compile(r"[A-Za-z_][\w.+-]*(/[\w.+-]+)?")
_VERSIONED = re.compile(r"(?P<name>[^@]+)@(?P<version>\d+)")
_EPS = "expected a number of zero or more such as 0.03 or 8/255"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_ITEM = re.compile(r'\s*([A-Za-z_]\w*)\s*=\s*("[^"]*"|[^,"]*)\s*(,|$)')


@dataclass(frozen=True)
class Spec:
    """A parsed spec: a plug-in's name and its parameters, still as text."""

    name: str
    params: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.params:
            return self.name
        items = ",".join(f"{key}={_quoted(value)}" for key, value in sorted(self.params.items()))
        return f"{self.name}:{items}"


def is_name(text: str) -> bool:
    """Whether a spec can name a plug-in so: ``name`` or ``family/name``."""
    return _NAME.fullmatch(text) is not None


def parse(text: str) -> Spec:
    """``"pgd:steps=40"`` to ``Spec("pgd", {"steps": "40"})``.

    Raises:
        UserError: the text is not a spec.
    """
    name, colon, rest = text.strip().partition(":")
    version = {}
    if versioned := _VERSIONED.fullmatch(name):
        name, version = versioned["name"], {"version": versioned["version"]}
    if not _NAME.fullmatch(name) or (colon and not rest):
        raise UserError(f"{text!r} is not a spec; expected name or name:key=value,key=value")
    params = parse_parameters(rest, text)
    if version and "version" in params:
        raise UserError(f"{text!r}: the version is given twice")
    return Spec(name, version | params)


def parse_parameters(rest: str, text: str) -> dict[str, str]:
    """``"steps=40,restarts=5"``, the rest of a spec ``text``, to values by key; "" to none.

    Raises:
        UserError: it is not of that form, or a key is given twice.
    """
    params: dict[str, str] = {}
    position = 0
    while position < len(rest):
        match = _ITEM.match(rest, position)
        if not match or (match[3] == "," and match.end() == len(rest)):
            raise UserError(f"{text!r}: expected key=value at {rest[position:]!r}")
        if match[1] in params:
            raise UserError(f"{text!r}: the key {match[1]!r} is given twice")
        params[match[1]] = match[2].strip().strip('"')
        position = match.end()
    return params


def canonical(text: str) -> str:
    """The one way to write a spec: keys sorted, and no quotes or spaces but where they are needed.

    Raises:
        UserError: the text is not a spec.
    """
    return str(parse(text))


def parse_eps(text: str) -> Fraction:
    """A budget's value, exactly: ``"8/255"``, ``"0.03"``, ``"1e-3"`` or ``"0"``.

    Raises:
        UserError: not a finite number of zero or more.
    """
    numerator, slash, denominator = text.strip().partition("/")
    parts = [numerator, denominator] if slash else [numerator]
    if not all(_NUMBER.fullmatch(part.strip()) for part in parts) or len(text) > 100:
        raise UserError(f"eps {text[:100]!r} is not a budget; {_EPS}")
    try:
        value = Fraction(numerator) / Fraction(denominator or 1)
    except ZeroDivisionError:
        raise UserError(f"eps {text!r} divides by zero; {_EPS}") from None
    if value < 0:
        raise UserError(f"eps {text!r} is negative; {_EPS}")
    return value


def parse_eps_list(texts: tuple[str, ...]) -> list[Fraction]:
    """``("0.03", "2/255,8/255")`` to sorted values without repeats."""
    for text in texts:
        if not all(item.strip() for item in text.split(",")):
            raise UserError(f"eps {text!r} has an empty entry; {_EPS}")
    return sorted({parse_eps(item) for text in texts for item in text.split(",")})


def format_eps(value: Fraction) -> str:
    """An eps as people write it: ``8/255`` where it is a simple share of 255, else a decimal."""
    scaled = value * 255
    if value and (scaled.denominator == 1 or scaled.denominator in (2, 4)) and scaled <= 255:
        number = f"{float(scaled):g}"
        return f"{number}/255"
    return f"{float(value):g}"


def bind(
    factory: Callable[..., Any], spec: Spec, *, reserved: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The spec's parameters as keyword arguments of ``factory``, typed by its annotations.

    ``factory`` is a class or a function. ``reserved`` names parameters that the caller fills
    in, so a user may not. A parameter named ``nonlocal_`` is spelled ``nonlocal`` in specs.

    Raises:
        UserError: an unknown key (the valid ones are listed) or a value of the wrong type.
    """
    expected = parameters(factory, reserved=reserved)
    values = {}
    for key, text in spec.params.items():
        if key not in expected:
            raise UserError(f"{spec.name} has no parameter {key!r}{suggest(key, expected)}")
        parameter = expected[key]
        try:
            values[parameter.keyword] = _convert(text, parameter.annotation)
        except ValueError:
            kind = describe(parameter.annotation)
            raise UserError(f"{spec.name}: {key}={text!r} is not {kind}") from None
    return values


@dataclass(frozen=True)
class Parameter:
    """One parameter of a plug-in: the keyword it is passed by, its type and its default."""

    keyword: str
    annotation: Any
    default: Any


def parameters(
    factory: Callable[..., Any], *, reserved: tuple[str, ...] = ()
) -> dict[str, Parameter]:
    """What a spec of ``factory`` may set, by the name used in spec text."""
    found = _of_class(factory) if isinstance(factory, type) else _keywords(factory)
    return {name.rstrip("_"): p for name, p in found.items() if name not in reserved}


@lru_cache(maxsize=256)
def _of_class(factory: type) -> Mapping[str, Parameter]:
    """Its hints are text, which takes a while to understand, and stay as they are."""
    return _keywords(factory)


def _keywords(factory: Callable[..., Any]) -> Mapping[str, Parameter]:
    """Every keyword that may be set."""
    if is_dataclass(factory):
        hints = typing.get_type_hints(factory)
        return {
            f.name: Parameter(f.name, hints[f.name], None if f.default is MISSING else f.default)
            for f in fields(factory)
            if f.init
        }
    told = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    hints = typing.get_type_hints(told)
    return {
        name: Parameter(name, hints.get(name, str), p.default)
        for name, p in inspect.signature(factory).parameters.items()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }


def describe(annotation: Any) -> str:
    """A type in words: ``a whole number``, ``one of ce, dice``."""
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    options = _options(annotation)
    if get_origin(annotation) is tuple:
        item = words.get(get_args(annotation)[0], "value").removeprefix("a ")
        return f"a list of {item}s separated by +"
    return " or ".join(words.get(option, describe_other(option)) for option in options)


def describe_other(annotation: Any) -> str:
    """The name of a type that has no plain words of its own."""
    if annotation is type(None):
        return "none"
    return describe(annotation) if get_origin(annotation) else str(annotation.__name__)


def _options(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _convert(text: str, annotation: Any) -> Any:
    """Text as a value of the annotated type; ValueError where it is none."""
    options = _options(annotation)
    if len(options) > 1:
        if type(None) in options and text.lower() == "none":
            return None
        for option in options:
            if option is not type(None):
                try:
                    return _convert(text, option)
                except ValueError:
                    continue
        raise ValueError(text)
    if get_origin(annotation) is Literal:
        for choice in get_args(annotation):
            if str(choice) == text:
                return choice
        raise ValueError(text)
    if get_origin(annotation) is tuple:
        return tuple(_convert(part, get_args(annotation)[0]) for part in text.split("+"))
    if annotation is bool:
        return _boolean(text)
    if annotation is int:
        return int(text)
    if annotation is float:
        return _real(text)
    return annotation(text)


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "false": False, "yes": True, "no": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _real(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator) if slash else float(text)
    except ZeroDivisionError:
        raise ValueError(text) from None
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _quoted(text: str) -> str:
    plain = text == text.strip() and not any(mark in text for mark in ",:=")
    return text if plain else f'"{text}"'
