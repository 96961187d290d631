"""Networks that are one file: TorchScript (``.pt``, ``.pth``, ``.ts``) and torch.export (``.pt2``).

Such a file holds the network's own code, which runs when the network does: operations on tensors,
of which the two that touch files are refused. Its layers cannot be told apart, so gradients are
taken in fp32: the first layer could not be kept out of bf16.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from segbench.errors import UserError
from segbench.networks.exported import HostileArchiveError, load_exported
from segbench.training.records import RecordsError, check_records

_LARGEST_SOURCE = 64 << 20  # bytes of TorchScript code, unpacked; megabytes are rare
_TOUCHES_FILES = re.compile(rb"\.\s*(save|from_file)\b")


def load_archive(content: bytes, path: Path) -> nn.Module:
    """The network in the content of a file, on the CPU.

    Raises:
        UserError: the file holds no network, or more than one.
    """
    exported = path.suffix == ".pt2"
    try:
        with warnings.catch_warnings():
            # torch announces the end of TorchScript at every use of it.
            warnings.simplefilter("ignore")
            if exported:
                return ExportedNetwork(load_exported(content))
            return ScriptedNetwork(_load_script(content))
    except HostileArchiveError as error:
        raise UserError(
            f"{path} is not opened, since that could run code: {error}; give the network as "
            "path.py:factory with --weights"
        ) from error
    except Exception as error:  # torch's readers fail in any way at all on foreign bytes
        kind = "torch.export" if exported else "TorchScript"
        reason = str(error) if isinstance(error, RecordsError) else type(error).__name__
        raise UserError(
            f"{path} is not a {kind} archive ({reason}); weights alone are no "
            "network: give -m module:factory or path.py:factory with --weights"
        ) from error


def _load_script(content: bytes) -> nn.Module:
    file = io.BytesIO(content)
    names = check_records(file, may_compress=_is_source, allowance=_LARGEST_SOURCE)
    if not names:
        raise RecordsError("it is no zip file")
    with zipfile.ZipFile(file) as records:
        for name in filter(_is_source, names):
            if found := _TOUCHES_FILES.search(records.read(name)):
                raise HostileArchiveError(f"{name} has {found[0].decode()!r}, which touches files")
    file.seek(0)
    script: nn.Module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    return script


def _is_source(record: str) -> bool:
    """Whether a record is source, or says where it came from: torch compresses those."""
    return record.endswith((".py", ".debug_pkl"))


class ScriptedNetwork(nn.Module):
    """A TorchScript module as a plain one, whose parameters can be frozen."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script

    def forward(self, images: Tensor) -> Any:
        """What the script returns."""
        return self.script(images)


class ExportedNetwork(nn.Module):
    """An exported program as a module: it is in the mode it was exported in, for good.

    A program exported for batches of one size gets its images in such batches, the last filled up
    with its last image.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.batch = _batch_size(program)

    def forward(self, images: Tensor) -> Any:
        """What the program returns."""
        if self.batch is None or len(images) == self.batch:
            return self.program(images)
        answers = []
        for part in torch.split(images, self.batch):
            lacking = part[-1:].expand(self.batch - len(part), *part.shape[1:])
            answer = self.program(torch.cat([part, lacking]))
            kept = itemgetter(slice(len(part)))
            answers.append(torch.utils._pytree.tree_map(kept, answer))
        return torch.utils._pytree.tree_map(lambda *parts: torch.cat(parts), *answers)

    def train(self, mode: bool = True) -> Self:
        """Exported programs refuse to change their mode."""
        self.training = mode
        return self


def _batch_size(program: nn.Module) -> int | None:
    """The batch size a program was exported for; None if it takes any."""
    graph = getattr(program, "graph", None)
    for node in graph.nodes if graph is not None else ():
        value = node.meta.get("val") if node.op == "placeholder" else None
        if isinstance(value, Tensor):
            size = value.shape[0]
            return size if isinstance(size, int) else None
    return None
