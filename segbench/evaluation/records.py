"""Records that are validated once, whichever door their values come through, in plain words.

Text, numbers, lists and tables are taken as TOML, the command line and Python write them; what does
not fit is refused in one sentence that names the key and the value, and says what was expected.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, TypeAdapter, ValidationError

from segbench.errors import UserError
from segbench.plugins.registry import suggest
from segbench.plugins.spec import canonical, parse_eps_list

R = TypeVar("R")

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Of every record: no unknown key, no number that is none."""

_LONGEST = 100  # characters of a value in a sentence
_EXPECTED = {
    "bool_type": "true or false",
    "dataclass_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a whole number from {ge} up",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a whole number up to {le}",
    "literal_error": "{expected}",
    "path_type": "a path",
    "string_type": "text",
    "too_short": "one entry or more",
}


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError("a whole number")
    return operator.index(value)


def _list(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ValueError("a list")
    return tuple(value)


def _eps(values: Any) -> tuple[Fraction, ...]:
    """Sorted, each once; an entry may be several, with commas between them.

    Raises:
        UserError: an entry is no budget.
    """
    texts = []
    for value in _list(values):
        if isinstance(value, bool) or not isinstance(value, (str, Real)):
            raise UserError(f"eps {shown(value)} is no number; expected one such as 0.03 or 8/255")
        texts.append(str(value))
    return tuple(parse_eps_list(tuple(texts)))


Flag = StrictBool
Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[Whole, Field(ge=1, le=10**9)]
Seed = Annotated[Whole, Field(ge=-(2**63), le=2**63 - 1)]
Seconds = Annotated[float, Field(strict=True, gt=0)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_list)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_list)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_list), Field(min_length=1)]
Eps = Annotated[tuple[Fraction, ...], BeforeValidator(_eps)]
DataSpec = Annotated[str, BeforeValidator(lambda v: canonical(v) if isinstance(v, str) else v)]


def validated(kind: type[R], values: Mapping[str, Any]) -> R:
    """The record of those values, by field name.

    Raises:
        UserError: an unknown key (the nearest is named) or a value that does not fit.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise UserError(_sentence(kind, error)) from None


def shown(value: Any) -> str:
    """A value as TOML writes it, cut where it is long."""
    text = json.dumps(value) if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _sentence(kind: Any, error: ValidationError) -> str:
    """The first complaint, in words."""
    first = error.errors()[0]
    *tables, last = first["loc"]
    if first["type"] == "unexpected_keyword_argument":
        for table in tables:
            kind = _record_of(get_type_hints(kind)[str(table)])
        key = ".".join(map(str, first["loc"]))
        return f"no key {key!r}{suggest(str(last), [field.name for field in fields(kind)])}"
    facts = {"error": first["msg"], **first.get("ctx", {})}
    expected = _EXPECTED.get(first["type"], "{error}").format_map(facts)
    names = ".".join(part for part in first["loc"] if isinstance(part, str))
    entry = " has the entry" if isinstance(last, int) else " ="
    return f"{names}{entry} {shown(first['input'])}; expected {expected}"


def _record_of(hint: Any) -> Any:
    """The record in a field's type, such as ``TrainConfig | None``."""
    return next(part for part in (hint, *get_args(hint)) if is_dataclass(part))
