"""One plug-in whole: what it is, its paper, every key with its meaning, and an example."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from typing import Any

from segbench.cli.summary import wrapped
from segbench.plugins import registry, spec
from segbench.plugins.naming import spell
from segbench.plugins.where import FORMS, WHERE, may_be_confined

_EXAMPLES = {
    "models": "segbench train {}",
    "attacks": "segbench attack -a {} --eps 4/255",
    "datasets": "segbench attack --dataset {} --data-root DIR --eps 4/255",
    "reports": "segbench report -f {}",
    "defences": "segbench train unet --defence {}",
}
_CONFINED = "the part of the image that it may perturb; all of it is scored."
_SECTION = re.compile(r"^(Attributes|Args):\n", re.MULTILINE)
_ITEM = re.compile(r"^    (\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)
_LONG = 6  # characters of a decimal that people would rather write as a fraction
_LARGEST = 255 * 40  # denominator


def describe_plugin(
    kind: registry.Kind, name: str, reserved: tuple[str, ...], width: int
) -> Iterator[str]:
    """The lines of a plug-in's page."""
    plugin = registry.load(kind, name)
    factory = plugin.factory
    keys = spec.parameters(factory, reserved=reserved)
    yield f"{kind.removesuffix('s')} {name}, of {plugin.distribution} {plugin.version}"
    yield ""
    for text in _paragraphs(factory):
        yield from wrapped(text, width, "")
        yield ""
    meanings = _meanings(factory)
    for key, parameter in keys.items():
        kind_of = spec.describe(parameter.annotation)
        first, *rest = wrapped(f"{key} = {written(parameter.default)}   ({kind_of})", width - 2, "")
        yield f"  {first}"
        yield from (f"      {line}" for line in rest)
        if meaning := meanings.get(key) or _told_with(key, meanings):
            yield from (f"      {line.strip()}" for line in wrapped(meaning, width - 6))
    if kind == "attacks" and may_be_confined(factory):
        yield f"  {WHERE} = none   ({FORMS})"
        yield from (f"      {line.strip()}" for line in wrapped(_CONFINED, width - 6))
    elif not keys:
        yield "  It has no keys."
    yield ""
    yield f"  {_command(kind, factory).format(_example(name, keys, factory))}"


def written(default: Any) -> str:
    """A default as a person writes it: ``1/510``, and not 0.00196078431372549."""
    if default is inspect.Parameter.empty:
        return "(must be given)"
    if isinstance(default, float) and len(repr(default)) > _LONG:
        share = Fraction(default).limit_denominator(_LARGEST)
        if math.isclose(share, default, rel_tol=1e-15):
            return f"{share.numerator}/{share.denominator}"
    text = spell(default)
    return text if text else '""'


def _paragraphs(factory: Callable[..., Any]) -> Iterator[str]:
    """The module's documentation, with the paper, then the factory's own, before its sections."""
    documented = [inspect.getdoc(inspect.getmodule(factory)), inspect.getdoc(factory)]
    for text in filter(None, documented):
        prose = _SECTION.split(text)[0]
        prose = re.split(r"^(?:Raises|Returns):\n", prose, flags=re.MULTILINE)[0]
        for paragraph in prose.split("\n\n"):
            if paragraph.strip():
                yield " ".join(paragraph.replace("``", "`").split())


def _meanings(factory: Callable[..., Any]) -> dict[str, str]:
    """Key -> what its documentation says, of the class itself before those it comes from."""
    sources = [*reversed(inspect.getmro(factory))] if inspect.isclass(factory) else [factory]
    found: dict[str, str] = {}
    for source in sources:
        text = inspect.cleandoc(source.__doc__ or "")
        for section in _SECTION.split(text)[2::2]:
            for key, meaning in _ITEM.findall(section):
                found[key.rstrip("_")] = " ".join(meaning.replace("``", "`").split())
    return found


def _told_with(key: str, meanings: Mapping[str, str]) -> str:
    """Of a key without a meaning of its own which other's tells it, if any does."""
    others = [other for other, meaning in meanings.items() if f"`{key}`" in meaning]
    return f"see {' and '.join(others)}." if others else ""


def _command(kind: registry.Kind, factory: Callable[..., Any]) -> str:
    """How it is used; an attack that brings its budgets needs no eps."""
    if kind == "attacks" and hasattr(factory, "budgets"):
        return "segbench attack -a {}"
    return _EXAMPLES[kind]


def _example(name: str, keys: dict[str, spec.Parameter], factory: Callable[..., Any]) -> str:
    """The plug-in with what must be given, or its first key that has a plain value."""
    if is_dataclass(factory):
        given = [f for f in fields(factory) if f.init and f.default is MISSING]
        needed = [f.name.rstrip("_") for f in given if f.default_factory is MISSING]
        if needed:
            return f"{name}:{','.join(f'{key}=...' for key in needed)}"
    for key, parameter in keys.items():
        if isinstance(parameter.default, (int, float)) and not isinstance(parameter.default, bool):
            return f"{name}:{key}={spell(parameter.default)}"
    return name
