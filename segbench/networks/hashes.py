"""What identifies a network: its weights, and the source of its architecture."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.errors import UserError
from segbench.networks.settings import layer_settings
from segbench.plugins.source import Imported, imported_by, made_hash
from segbench.plugins.tensor_bytes import tensor_bytes

if TYPE_CHECKING:
    from torch import nn


def state_hash(network: nn.Module) -> str:
    """SHA-256 (hex) of all parameters and buffers, with their names, types and shapes.

    And of what layers keep beside them (``get_extra_state``): tensors, bytes, numbers, texts, and
    lists, sets and tables of these.

    Raises:
        UserError: a layer keeps something else, of which it cannot be said when it is the same.
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        for part in _state_bytes(name, value):
            digest.update(part)
    return digest.hexdigest()


def _state_bytes(name: str, value: Any) -> Iterator[bytes]:
    """The bytes that stand for a value of that name; other values have others."""
    import torch

    if isinstance(value, torch.Tensor):
        yield f"{name} {value.dtype} {tuple(value.shape)}\n".encode()
        yield tensor_bytes(value)
    elif isinstance(value, BytesIO):
        yield from _state_bytes(name, value.getvalue())
    elif isinstance(value, (bytes, bytearray)):
        yield f"{name} bytes {len(value)}\n".encode() + value
    elif value is None or isinstance(value, (bool, int, float, complex, str)):
        yield f"{name} {type(value).__name__} {value!r}\n".encode()
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = value if isinstance(value, (list, tuple)) else sorted(value, key=repr)
        yield f"{name} {type(value).__name__} {len(value)}\n".encode()
        for place, item in enumerate(items):
            yield from _state_bytes(f"{name}[{place}]", item)
    elif isinstance(value, Mapping):
        yield f"{name} table {len(value)}\n".encode()
        for key in sorted(value, key=repr):
            yield from _state_bytes(f"{name}[{key!r}]", value[key])
    else:
        raise UserError(
            f"the network keeps {name}, of type {type(value).__name__}, beside its tensors "
            "(get_extra_state), by which it cannot be told from another; expected tensors, bytes, "
            "numbers, texts, or lists and tables of these"
        )


def source_hash(
    network: nn.Module, factory: Any = None, also: Iterable[Path] = (), package: str = ""
) -> str:
    """SHA-256 (hex) of the source files of all its layers' classes, torch's own left out.

    With all that they import of the user's own, the versions of other packages that are installed,
    and the code of what was made at run time; see ``plugins/source.py``. Classes of the program
    that runs, a script or a notebook, are left out as well; see ``given.py``.

    Args:
        network: it.
        factory: the function that puts the layers together, which may be in no layer's file.
        also: further files.
        package: one whose modules count, though it may be installed.
    """
    kinds = {type(layer) for layer in network.modules()}
    own = [kind for kind in kinds if not _is_torch(kind) and kind.__module__ != "__main__"]
    made = [*own, *([] if factory is None else [inspect.unwrap(factory)])]
    files = {file for thing in made if (file := _file_of(thing))}
    modules = {thing.__module__ for thing in made if getattr(thing, "__module__", None)}
    found = imported_by(modules, package)
    for path in also:
        found.files.setdefault(path.resolve(), path.stem)
    digest = hashlib.sha256()
    for content in sorted(hashlib.sha256(file.read_bytes()).digest() for file in files):
        digest.update(content)
    for code in sorted(filter(None, map(made_hash, made))):
        digest.update(f"{code}\n".encode())
    beside = {path: name for path, name in found.files.items() if path not in files}
    for name, text in sorted(Imported(beside, found.versions).parts()):
        digest.update(f"{name} {hashlib.sha256(text).hexdigest()}\n".encode())
    return digest.hexdigest()


def _file_of(thing: Any) -> Path | None:
    """The file of a class or function; None where it was made at run time."""
    try:
        file = Path(inspect.getfile(thing)).resolve()
    except (TypeError, OSError):
        return None
    return file if file.is_file() else None


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
