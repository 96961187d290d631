"""A class of another library as a `build` whose signature lists the keys that a spec may set."""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from torch import nn

Keys = dict[str, inspect.Parameter]
_KIND = inspect.Parameter.KEYWORD_ONLY


def spec_keys(
    network: type[nn.Module], *, leave_out: Collection[str], defaults: Mapping[str, Any]
) -> Keys:
    """The parameters of a class that spec text can express, with the given or its own defaults.

    These are numbers, truth values, text, choices and lists of whole numbers whose default
    survives a checkpoint's card.
    """
    hints = typing.get_type_hints(network.__init__)
    keys = {}
    for name, parameter in inspect.signature(network).parameters.items():
        if name in leave_out or parameter.kind is parameter.VAR_KEYWORD:
            continue
        default = defaults.get(name, parameter.default)
        annotation = _expressible(hints.get(name, type(default)))
        if annotation is not None and (default is parameter.empty or _is_simple(default)):
            keys[name] = key(name, annotation, default)
    return keys


def key(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """One key of a spec."""
    return inspect.Parameter(name, _KIND, annotation=annotation, default=default)


def sign(build: Callable[..., nn.Module], keys: Keys, summary: str) -> None:
    """Give a `build` its data's sizes and these keys as its signature, and a docstring."""
    sizes = (key("in_channels", int), key("num_classes", int), key("spatial_dims", int, 2))
    signature = inspect.Signature([*sizes, *keys.values()])
    build.__signature__ = signature  # type: ignore[attr-defined]
    build.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    build.__doc__ = summary


def first_sentence(network: type[nn.Module]) -> str:
    """The first paragraph of a class's docstring, on one line."""
    lines = (inspect.getdoc(network) or "").strip().partition("\n\n")[0]
    return " ".join(lines.split())


def _expressible(hint: Any) -> Any:
    """The part of a type that spec text can express; None if there is none."""
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [part for option in get_args(hint) if (part := _expressible(option)) is not None]
        return typing.Union[tuple(dict.fromkeys(parts))] if parts else None  # noqa: UP007
    if hint in (int, float, bool, str, type(None)) or origin is Literal:
        return hint
    if hint in (tuple, list) or origin in (tuple, list, Sequence):
        inner = get_args(hint)
        whole = not inner or all(_holds_whole_numbers(part) for part in inner if part is not ...)
        return tuple[int, ...] if whole else None
    return None


def _holds_whole_numbers(hint: Any) -> bool:
    options = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return int in options


def _is_simple(value: Any) -> bool:
    """Whether a default survives a card: JSON without mappings."""
    if isinstance(value, (tuple, list)):
        return all(isinstance(item, int) for item in value)
    return value is None or type(value) in (int, float, bool, str)
