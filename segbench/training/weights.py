"""Weights files into networks. Nothing is ever unpickled: a weights file cannot run code."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from segbench.atomic import read_regular, require_regular
from segbench.errors import UserError
from segbench.training.records import RecordsError, check_records

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a user's own weights into a network, in place; every name, shape and kind must agree.

    ``.safetensors`` files are read as such, all others by ``torch.load(weights_only=True)``. A
    state dict may lie under ``state_dict``, ``model`` and the like, and all its names may begin
    with ``module.``.

    Raises:
        UserError: the file cannot be read, holds more than tensors, or does not fit.
    """
    reader = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    try:
        tensors = reader(path)
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror or error}") from None
    fit_weights(module, tensors, path)


def parse_safetensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The named tensors in the content of a file.

    Raises:
        UserError: it is truncated, or of another format.
    """
    try:
        return load(content)
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"weights {path} are not a complete safetensors file ({error}); "
            "they were not unpickled; give the original file"
        ) from None


def load_tensors(path: Path) -> Any:
    """What ``torch.save`` put into a file, on the CPU; nothing is unpickled that could run code.

    Raises:
        OSError: the file cannot be read, or is none.
        Exception: anything at all, where the file is not of ``torch.save``.
    """
    require_regular(path)
    with path.open("rb") as file, warnings.catch_warnings():
        # torch warns of TorchScript archives, and then refuses them.
        warnings.simplefilter("ignore")
        check_records(file)
        return torch.load(file, map_location="cpu", weights_only=True)


def fit_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy named tensors into a network, in place; real numbers of another width are said.

    Raises:
        UserError: a name is missing or unknown, or a shape or kind of number differs; all are
            counted, some named.
    """
    expected = module.state_dict()
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
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in complaints.items() if names]
    if found:
        raise UserError(f"weights {path} do not fit the network: " + "; ".join(found))
    casts = {
        (tensors[n].dtype, expected[n].dtype) for n in common if expected[n].is_floating_point()
    }
    for given, wanted in sorted(casts, key=str):
        if given != wanted:
            message = (
                f"weights {path} are {_plain(given)}; the network computes in {_plain(wanted)}"
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


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    return parse_safetensors(read_regular(path), path)


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = load_tensors(path)
    except OSError:
        raise
    except pickle.UnpicklingError:
        raise UserError(
            f"weights {path} hold more than tensors, or none at all, and were not unpickled, since "
            "that can run code; save the network's state_dict() and give that file"
        ) from None
    except Exception as error:  # torch's reader fails in any way at all on foreign bytes
        reason = str(error) if isinstance(error, RecordsError) else type(error).__name__
        raise UserError(
            f"weights {path} are not a file of torch.save ({reason}) and were not unpickled; "
            "give a state dict as .safetensors, .pt or .pth"
        ) from error
    return _named_tensors(content, path)


def _named_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside whatever was saved."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"weights {path} hold no state dict, but a {type(content).__name__}")
    strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise UserError(f"weights {path} hold things that are not tensors: {_some(strange)}")
    tensors = {str(name): value for name, value in content.items()}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
