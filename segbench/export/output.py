"""What a network answers, for its card: found by asking it, or not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from segbench.engine.handed import handed
from segbench.engine.meeting import meets_cases
from segbench.errors import MachineError, UserError
from segbench.networks.adapt import adapt_network

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset
    from segbench.networks import LoadedModel

_UNKNOWN = "not known"


def describe_output(model: LoadedModel, dataset: Dataset) -> dict[str, Any]:
    """What makes probabilities of its logits (``output``), its channels, and whether it answers
    with logits or ``probabilities``; each ``not known`` where asking it does not tell.

    One of the user's own is made ready as an attack would; one that must meet its cases is not
    asked, and says what it declares.
    """
    declared = getattr(model.module, "output", _UNKNOWN)
    nothing = {"output": declared, "output_channels": _UNKNOWN, "output_values": _UNKNOWN}
    if meets_cases(model.module):
        return nothing
    shape = next(e.shape for split in dataset.splits for e in dataset.entries(split))
    module, kind = model.module, None
    try:
        if model.own:
            found = adapt_network(
                module, [shape], model.normalization, classes=len(dataset.class_names),
                wishes=model.wishes,
            )  # fmt: skip
            module, kind = found.module, found.probabilities
        channels = _channels(module, shape)
    except (UserError, MachineError, RuntimeError, MemoryError):
        return nothing  # it takes other data than these
    by_count = "sigmoid" if channels == 1 else "softmax"
    return {
        "output": kind or getattr(model.module, "output", by_count),
        "output_channels": channels,
        "output_values": "probabilities" if kind else "logits",
    }


def _channels(module: nn.Module, shape: tuple[int, ...]) -> int:
    """How many an image (C, *spatial) gets."""
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return int(module.eval()(handed(image)).shape[1])
