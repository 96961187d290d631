"""The folder of an exported network: its files, and that nothing else is lost for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.atomic import read_regular, write_atomically
from segbench.errors import UserError
from segbench.plugins.tensor_bytes import tensor_bytes
from segbench.training.card import CARD_FILE

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = "model_card.json"
WEIGHTS = "model.safetensors"
BUNDLE_WEIGHTS = "models/model.pt"
BUNDLE_CONFIG = "configs/inference.json"
BUNDLE_METADATA = "configs/metadata.json"
_WRITTEN = (CARD_FILE, WEIGHTS, DESCRIPTION, BUNDLE_WEIGHTS, BUNDLE_CONFIG, BUNDLE_METADATA)


def refuse_others(
    folder: Path, weights_sha256: str, file: str, tensors: Mapping[str, Tensor]
) -> None:
    """Refuse a folder with a network in it, unless it is an earlier export of these very weights.

    Or what is left of one that was stopped when it had written the weights and not what they are.

    Args:
        weights_sha256: of the network, as its card says.
        file: the weights file that is to be written.
        tensors: what it is to hold; what it holds may have changed since its card was written.

    Raises:
        UserError: a checkpoint, a bundle or other weights lie there.
    """
    there = [name for name in _WRITTEN if (folder / name).exists()]
    if not there or (there == [file] and _holds(folder / file, tensors)):
        return
    if _exported(folder) != weights_sha256:
        what = (
            "is a checkpoint" if there[0] == CARD_FILE else f"holds {there[0]} of another network"
        )
    elif file in there and not _holds(folder / file, tensors):
        what = f"holds {file} with other tensors than its {DESCRIPTION} is of"
    else:
        return
    raise UserError(f"--out {folder} {what}, which would be overwritten; name another folder")


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """The files, each under its name within the folder.

    Raises:
        MachineError: they cannot be written.
    """
    written = []
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        written.append(path)
    return written


def as_json(content: Mapping[str, Any]) -> bytes:
    """As it is written."""
    return (json.dumps(content, indent=2, default=str) + "\n").encode()


def _exported(folder: Path) -> str:
    """The weights that an earlier export says are there; "" for none."""
    try:
        found = json.loads(read_regular(folder / DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(found.get("weights_sha256", "")) if isinstance(found, dict) else ""


def _holds(file: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are all tensors of a file: names, types, shapes and numbers."""
    from safetensors.torch import load

    from segbench.training.weight_files import load_tensors

    try:
        found: Any = load(read_regular(file)) if file.name == WEIGHTS else load_tensors(file)
    except Exception:  # readers fail in any way at all on foreign bytes
        return False
    return (
        isinstance(found, Mapping)
        and found.keys() == tensors.keys()
        and all(_alike(found[name], tensor) for name, tensor in tensors.items())
    )


def _alike(found: Any, tensor: Tensor) -> bool:
    return (
        type(found) is type(tensor)
        and (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        and tensor_bytes(found) == tensor_bytes(tensor)
    )
