"""Weights files into networks. Nothing is ever unpickled: a weights file cannot run code."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segbench.errors import UserError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a user's own weights into a network, in place; every name and shape must agree.

    ``.safetensors`` files are read as such, all others by ``torch.load(weights_only=True)``. A
    state dict may lie under ``state_dict``, ``model`` and the like, and all its names may begin
    with ``module.``.

    Raises:
        UserError: the file cannot be read, holds more than tensors, or does not fit.
    """
    reader = read_safetensors if path.suffix == ".safetensors" else _read_torch
    fit_weights(module, reader(path), path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file.

    Raises:
        UserError: the file is missing, truncated, or of another format.
    """
    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"weights {path} are not a complete safetensors file ({error}); "
            "they were not unpickled; give the original file"
        ) from None


def fit_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy named tensors into a network, in place.

    Raises:
        UserError: a name is missing or unknown, or a shape differs; all are counted, some named.
    """
    expected = module.state_dict()
    complaints = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
            for name in sorted(expected.keys() & tensors.keys())
            if tensors[name].shape != expected[name].shape
        ],
    }
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in complaints.items() if names]
    if found:
        raise UserError(f"weights {path} do not fit the network: " + "; ".join(found))
    module.load_state_dict(dict(tensors))


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # torch warns of TorchScript archives, and then refuses them.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"weights {path} hold more than tensors, or none at all, and were not unpickled, since "
            "that can run code; save the network's state_dict() and give that file"
        ) from None
    except Exception as error:  # torch's reader fails in any way at all on foreign bytes
        raise UserError(
            f"weights {path} are not a file of torch.save ({type(error).__name__}) and were not "
            "unpickled; give a state dict as .safetensors, .pt or .pth"
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
