"""What identifies a network: its weights, and the source of its architecture."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.networks.settings import layer_settings

if TYPE_CHECKING:
    from torch import nn


def state_hash(network: nn.Module) -> str:
    """SHA-256 (hex) of all parameters and buffers, with their names, types and shapes."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes, since numpy has no bfloat16.
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def source_hash(network: nn.Module, *also: Path) -> str:
    """SHA-256 (hex) of the source files of all its layers' classes, torch's own left out.

    So are classes of the program that runs, a script or a notebook; see ``given.py``. ``also`` are
    files that no layer's class is in, such as the one that puts the layers together.
    """
    classes = {type(layer) for layer in network.modules()}
    files = {str(path.resolve()) for path in also}
    for kind in classes:
        if not _is_torch(kind) and kind.__module__ != "__main__":
            try:
                files.add(str(Path(inspect.getfile(kind)).resolve()))
            except (TypeError, OSError):
                continue  # made at run time; its weights still count
    digest = hashlib.sha256()
    for content in sorted(hashlib.sha256(Path(f).read_bytes()).digest() for f in files):
        digest.update(content)
    return digest.hexdigest()


def layers_hash(network: nn.Module) -> str:
    """SHA-256 (hex) of its layers' names and classes, and of what they say of themselves.

    Another activation, stride or dilation, or anything else that a layer was built with, changes
    neither the weights nor a layer's source; see ``settings.py``.
    """
    digest = hashlib.sha256()
    for name, layer in network.named_modules():
        kind = type(layer)
        said = layer.extra_repr() if _is_torch(kind) else ""  # others may name addresses
        digest.update(f"{name} {kind.__qualname__}({said}) {layer_settings(layer)}\n".encode())
    return digest.hexdigest()


def _is_torch(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "torch"
