"""Files of ``torch.save`` as people make them, read so that nothing in one is built or called.

A checkpoint holds more than weights: arguments, numpy scalars, optimisers, even the network object
itself. Of all that only tensors, numbers, texts, lists and maps are taken. Whatever else the file
names becomes an inert placeholder; its classes are never imported, and what it asks to be called is
not. A tensor is a note of where its numbers lie until somebody asks for them.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segbench.training.records import RecordsError

_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip


class Inert:
    """Stands for any object of a file: it takes whatever is done to it, and does nothing."""

    state: Any = None

    def __init__(self, *parts: Any, **named: Any) -> None:
        self.parts = parts

    def __new__(cls, *parts: Any, **named: Any) -> Inert:
        """Whatever it would be made of."""
        return object.__new__(cls)

    def __call__(self, *parts: Any, **named: Any) -> Inert:
        """Another one."""
        return Inert(*parts)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Nothing."""

    def extend(self, items: Any) -> None:
        """Nothing."""

    def add(self, item: Any) -> None:
        """Nothing."""


class Map(dict[Any, Any]):
    """An ordered dictionary of a file, without what torch hangs on it."""

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class _Storage:
    """Numbers of one type, in the file or to come."""

    key: str
    dtype: torch.dtype | None


class Stored:
    """A tensor of a file: where in which storage its numbers lie."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def __setstate__(self, state: Any) -> None:
        pass


class _Parameter:
    """Of a parameter, its tensor."""

    def __new__(cls, data: Any, *rest: Any) -> Any:
        """The tensor itself."""
        return data

    def __setstate__(self, state: Any) -> None:
        pass


_KNOWN: Mapping[tuple[str, str], type] = {
    ("collections", "OrderedDict"): Map,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): Stored,
    ("torch._utils", "_rebuild_tensor"): Stored,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for every name; nothing is imported."""
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return type(name, (Inert,), {})
        return _KNOWN.get((module, name), Inert)

    def persistent_load(self, pid: Any) -> Any:
        """The note of a storage; older files name what a network's source was, too."""
        if isinstance(pid, tuple) and len(pid) > 2 and pid[0] == "storage":
            kind = getattr(pid[1], "__name__", "")
            return _Storage(str(pid[2]), _DTYPES.get(kind))
        return pid[1] if isinstance(pid, tuple) and len(pid) > 1 else Inert()


class Checkpoint:
    """The content of a file, and the bytes that its tensors lie in.

    Attributes:
        content: numbers, texts, lists and maps as they are, tensors as :class:`Stored`, and
            everything else as :class:`Inert`.
    """

    def __init__(self, content: Any, storages: Mapping[str, bytes]) -> None:
        self.content = content
        self._storages = storages

    def tensor(self, stored: Stored) -> Tensor:
        """The numbers of a tensor.

        Raises:
            RecordsError: they are not in the file, or not of a type that torch has.
        """
        storage = stored.storage
        shape = (stored.offset, *_whole(stored.size), *_whole(stored.stride))
        if not isinstance(storage, _Storage) or storage.dtype is None or min(map(int, shape)) < 0:
            raise RecordsError("it has a tensor of an unknown kind")
        content = self._storages.get(storage.key)
        if content is None:
            raise RecordsError(f"it lacks the numbers {storage.key!r}")
        sizes, strides = _whole(stored.size), _whole(stored.stride)
        if math.prod(sizes) == 0:
            return torch.empty(sizes, dtype=storage.dtype)
        flat = torch.frombuffer(bytearray(content), dtype=storage.dtype)
        last = stored.offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if last >= len(flat):
            raise RecordsError(f"it has a tensor that reaches beyond its numbers {storage.key!r}")
        return flat.as_strided(sizes, strides, stored.offset)


def read_inert(content: bytes) -> Checkpoint:
    """A file of ``torch.save``, of either of its formats.

    Raises:
        Exception: anything at all, where it is none.
    """
    if content.startswith(b"PK"):
        return _read_zip(content)
    return _read_old(io.BytesIO(content))


def _read_zip(content: bytes) -> Checkpoint:
    with zipfile.ZipFile(io.BytesIO(content)) as records:
        names = records.namelist()
        (pickled,) = [name for name in names if name.endswith("data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise RecordsError("it is a TorchScript archive")
        if f"{folder}byteorder" in names:
            _require_order(records.read(f"{folder}byteorder").decode())
        read = _Reader(io.BytesIO(records.read(pickled))).load()
        storages = {
            name.removeprefix(f"{folder}data/"): records.read(name)
            for name in names
            if name.startswith(f"{folder}data/")
        }
    return Checkpoint(read, storages)


def _read_old(file: io.BytesIO) -> Checkpoint:
    """Before torch 1.6: pickles one after another, then every storage's numbers."""
    magic, _, machine = (_Reader(file).load() for _ in range(3))
    if magic != _OLD_MAGIC:
        raise RecordsError("it is no file of torch.save")
    _require_order("little" if machine.get("little_endian", True) else "big")
    reader = _Sized(file)
    content = reader.load()
    keys = [str(key) for key in _Reader(file).load()]
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(count * reader.widths[key])
    return Checkpoint(content, storages)


class _Sized(_Reader):
    """A reader that notes how many bytes each of a storage's numbers takes."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.widths: dict[str, int] = {}

    def persistent_load(self, pid: Any) -> Any:
        """As the others do."""
        found = super().persistent_load(pid)
        if isinstance(found, _Storage):
            if found.dtype is None:
                raise RecordsError("it has numbers of an unknown type")
            self.widths[found.key] = found.dtype.itemsize
        return found


def _require_order(order: str) -> None:
    if order != sys.byteorder:
        raise RecordsError(f"its numbers are {order}-endian, this machine's are {sys.byteorder}")


def _whole(numbers: Any) -> tuple[int, ...]:
    if isinstance(numbers, (tuple, list)) and all(type(n) is int for n in numbers):
        return tuple(numbers)
    raise RecordsError("it has a tensor without a shape")


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """What lies within a map, a list or the state of a placeholder, by name."""
    held = value.state if isinstance(value, Inert) else value
    if isinstance(held, dict):
        yield from [(str(key), part) for key, part in held.items()]
    elif isinstance(held, (list, tuple)):
        yield from [(str(number), part) for number, part in enumerate(held)]
