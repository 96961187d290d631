"""Files of named tensors and a few facts in text, verified by a checksum over all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.atomic import read_whole, shown, write_atomically
from segbench.errors import MachineError, UserError
from segbench.plugins.tensor_bytes import tensor_bytes
from segbench.store.records import require_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_CHECKSUM = "sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write a safetensors file; whole or not at all.

    Raises:
        MachineError: the disk refused.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, {**facts, _CHECKSUM: _checksum(plain, facts)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors, on the CPU, and the facts; None where there is no file.

    Raises:
        UserError: the file is damaged or not one of ours.
        MachineError: it may not be read.
    """
    return read_whole(path, lambda: _load(path, "pt", _checksum))


def load_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]] | None:
    """The same as arrays, without torch, which takes seconds to come.

    Raises:
        UserError: the file is damaged, not one of ours, or of types that NumPy lacks.
        MachineError: it may not be read.
    """
    return read_whole(path, lambda: _load(path, "numpy", _checksum_of_arrays))


def _load(
    path: Path, framework: str, checksum: Callable[[dict[str, Any], dict[str, str]], str]
) -> tuple[dict[str, Any], dict[str, str]] | None:
    from safetensors import SafetensorError, safe_open

    try:
        require_regular(path)
        with safe_open(path, framework=framework) as file:
            facts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts.pop(_CHECKSUM, None) != checksum(tensors, facts):
            raise ValueError("its checksum is not that of its content")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, TypeError) as error:
        raise damaged(path, str(error)) from None
    return tensors, facts


def read_facts(path: Path) -> dict[str, str]:
    """The facts alone, unverified; none where the file is gone or cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        require_regular(path)
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError, UserError):
        return {}


def damaged(path: Path, reason: str) -> UserError:
    """What to say of a file that is not as it was written."""
    return UserError(
        f"{shown(path)} is damaged ({reason}); delete it and run the same command again"
    )


def _checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(facts.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _checksum_of_arrays(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> str:
    """That of the same tensors."""
    digest = hashlib.sha256(repr(sorted(facts.items())).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} torch.{array.dtype.name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
