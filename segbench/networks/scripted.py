"""Networks that are one file: TorchScript (``.pt``, ``.pth``, ``.ts``) and torch.export (``.pt2``).

Such a file holds the network's own code, which runs when the network does. Its layers cannot be
told apart, so gradients are taken in fp32: the first layer could not be kept out of bf16.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from segbench.errors import UserError


def load_archive(path: Path) -> nn.Module:
    """The network in the file, on the CPU.

    Raises:
        UserError: the file holds no network.
    """
    try:
        with warnings.catch_warnings():
            # torch announces the end of TorchScript at every use of it.
            warnings.simplefilter("ignore")
            if path.suffix == ".pt2":
                return ExportedNetwork(torch.export.load(path).module())
            return ScriptedNetwork(torch.jit.load(str(path), map_location="cpu"))  # type: ignore[no-untyped-call]
    except Exception as error:  # torch's readers fail in any way at all on foreign bytes
        kind = "torch.export" if path.suffix == ".pt2" else "TorchScript"
        raise UserError(
            f"{path} is not a {kind} archive ({type(error).__name__}); weights alone are no "
            "network: give -m module:factory or path.py:factory with --weights"
        ) from error


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

    A program exported for batches of one gets its images one by one.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.one_by_one = _batch_size(program) == 1

    def forward(self, images: Tensor) -> Any:
        """What the program returns."""
        if not self.one_by_one or len(images) == 1:
            return self.program(images)
        answers = [self.program(image[None]) for image in images]
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
