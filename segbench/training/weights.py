"""Weights into networks: of all that a file holds, what fits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segbench.atomic import read_regular, shown
from segbench.errors import UserError
from segbench.training.inert import Checkpoint, Inert
from segbench.training.records import RecordsError
from segbench.training.state_dicts import (
    Fitted,
    StateDict,
    as_tensor,
    conventional_first,
    find_state_dicts,
    fit_names,
    same_numbers,
    tensors_of,
)
from segbench.training.weight_files import parse_safetensors, parse_torch, read_torch


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a user's own weights into a network, in place; every name, shape and kind must agree.

    ``.safetensors`` files are read as such, all others as files of ``torch.save``, whatever else
    they hold; see ``inert.py``. The state dict may lie at any key, and all its names may have one
    prefix more or less than the network's. What is ignored is said.

    Raises:
        UserError: the file cannot be read, holds nothing that fits, or several things that do.
    """
    try:
        if path.suffix == ".safetensors":
            read: tuple[Any, Checkpoint | None] = parse_safetensors(read_regular(path), path), None
        else:
            read = read_torch(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"weights {shown(path)} cannot be read: {reason}") from None
    _load_fitted(module, _choose(module, *read, path), read[1], path)


def _load_fitted(
    module: nn.Module, fitted: Fitted, checkpoint: Checkpoint | None, path: Path
) -> None:
    try:
        tensors = {name: as_tensor(value, checkpoint) for name, value in fitted.tensors.items()}
    except (RecordsError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"weights {shown(path)} are damaged: {error}") from None
    expected = tensors_of(module)
    missing = {name: expected[name] for name in expected.keys() - tensors.keys()}
    fit_weights(module, tensors | missing, path)


def load_content(module: nn.Module, content: bytes, path: Path) -> None:
    """As ``load_weights``, of a file of ``torch.save`` that has been read.

    Raises:
        UserError: it holds nothing that fits, or several things that do.
    """
    read = parse_torch(content, path)
    _load_fitted(module, _choose(module, *read, path), read[1], path)


def load_part(module: nn.Module, path: Path, key: str) -> Mapping[str, Any]:
    """Load what lies at a key of a file of ``torch.save``, in place; the rest of the file's map.

    Raises:
        UserError: the file cannot be read, has no such key, or its weights do not fit.
    """
    try:
        content, checkpoint = read_torch(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"weights {shown(path)} cannot be read: {reason}") from None
    if not isinstance(content, Mapping) or key not in content:
        raise UserError(f"weights {shown(path)} hold no {key}")
    found = find_state_dicts(content[key])
    expected = tensors_of(module)
    fits = [fit for one in found for fit in fit_names(one, expected)]
    if not fits:
        _refuse_misfit(found or [StateDict(key, {})], expected, path, "")
    _load_fitted(module, fits[0], checkpoint, path)
    return {name: value for name, value in content.items() if name != key}


def fit_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy named tensors into a network, in place; real numbers of another width are said.

    Raises:
        UserError: a name is missing or unknown, or a shape or kind of number differs; all are
            counted, some named.
    """
    expected = tensors_of(module)
    common = sorted(expected.keys() & tensors.keys())
    complaints = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
            for name in common
            if tensors[name].shape != expected[name].shape
        ],
        "of another kind": [
            f"{name} {kind}"
            for name in common
            if (kind := _other_kind(tensors[name], expected[name].dtype))
        ],
    }
    if found := _counted(complaints):
        raise UserError(f"weights {shown(path)} do not fit the network: {found}")
    casts = {
        (tensors[n].dtype, expected[n].dtype) for n in common if expected[n].is_floating_point()
    }
    for given, wanted in sorted(casts, key=str):
        if given != wanted:
            message = (
                f"weights {shown(path)} are {_plain(given)}; "
                f"the network computes in {_plain(wanted)}"
            )
            warnings.warn(message, stacklevel=2)
    module.load_state_dict(dict(tensors))


def _other_kind(tensor: Tensor, wanted: torch.dtype) -> str:
    """Why a tensor cannot become one of that type without a loss, in words; "" if it can."""
    if tensor.is_meta:
        return "without values (on the meta device)"
    if tensor.is_quantized or tensor.layout != torch.strided:
        return "quantized" if tensor.is_quantized else "sparse"
    given = tensor.dtype
    if given == wanted or (given.is_floating_point and wanted.is_floating_point):
        return ""
    whole = not (given.is_floating_point or given.is_complex or wanted.is_floating_point)
    if whole and torch.equal(tensor.to(wanted).to(given), tensor):
        return ""
    return f"{_plain(given)}, not {_plain(wanted)}"


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _choose(module: nn.Module, content: Any, checkpoint: Checkpoint | None, path: Path) -> Fitted:
    """The one state dict of a file that fits a network, by its name and shapes."""
    found = find_state_dicts(content)
    if not found:
        kind = "an object" if isinstance(content, Inert) else f"a {type(content).__name__}"
        unread = _unread(checkpoint)
        raise UserError(f"weights {shown(path)} hold no state dict, but {kind}{unread}")
    expected = tensors_of(module)
    fits = conventional_first([fit for one in found for fit in fit_names(one, expected)])
    if not fits:
        _refuse_misfit(found, expected, path, _unread(checkpoint))
    first = fits[0]
    others = [one for one in fits[1:] if not same_numbers(first, one, checkpoint)]
    if rivals := [one for one in others if one.source is first.source]:
        names = " or ".join(repr(one.prefix) for one in (first, *rivals))
        raise UserError(
            f"weights {shown(path)} hold several sets of weights that fit the network, whose names "
            f"begin with {names}; save the one that is meant and give that file"
        )
    _say_ignored(first, [one for one in others if one.source is not first.source], content, path)
    return first


def _refuse_misfit(
    found: list[StateDict], expected: Mapping[str, Tensor], path: Path, unread: str
) -> None:
    """UserError that says what keeps the likeliest of the state dicts from fitting."""

    def misses(one: StateDict) -> int:
        return len(expected.keys() ^ one.tensors.keys())

    nearest = min(found, key=misses)
    shapes = {
        name: tuple(value.shape if isinstance(value, Tensor) else value.size)
        for name, value in nearest.tensors.items()
    }
    complaints = {
        "missing": sorted(expected.keys() - shapes.keys()),
        "unexpected": sorted(shapes.keys() - expected.keys()),
        "of another shape": [
            f"{name} {shapes[name]}, not {tuple(expected[name].shape)}"
            for name in sorted(expected.keys() & shapes.keys())
            if shapes[name] != tuple(expected[name].shape)
        ],
    }
    where = f" (at {nearest.key!r})" if nearest.key else ""
    counted = _counted(complaints)
    raise UserError(f"weights {shown(path)}{where} do not fit the network: {counted}{unread}")


def _unread(checkpoint: Checkpoint | None) -> str:
    """The end of a sentence about a file that holds more than tensors."""
    return (
        "; what is no tensor in it was not unpickled, since that can run code" if checkpoint else ""
    )


def _say_ignored(taken: Fitted, others: list[Fitted], content: Any, path: Path) -> None:
    """A warning that names what a file holds beside what was taken from it."""
    outer = taken.source.key.partition(".")[0]
    beside = [str(key) for key in content] if outer and isinstance(content, Mapping) else []
    ignored = [*taken.ignored, *(key for key in beside if key != outer)]
    said = [f"{_some(ignored)} ignored"] if ignored else []
    if others:
        keys = _some([one.source.key or "the outermost" for one in others])
        said.append(f"other weights that would fit, at {keys}, ignored")
    if said:
        where = f" taken from {taken.source.key!r}" if taken.source.key else ""
        prefix = f" less the prefix {taken.prefix!r}" if taken.prefix.endswith(".") else ""
        prefix = prefix if not taken.prefix.startswith("+") else ""
        warnings.warn(f"weights {shown(path)}{where}{prefix}: {'; '.join(said)}", stacklevel=4)


def _counted(complaints: Mapping[str, list[str]]) -> str:
    return "; ".join(
        f"{len(names)} {kind} ({_some(names)})" for kind, names in complaints.items() if names
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
