"""The memory layout that convolutions are fastest in."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lay_out_channels_last(module: nn.Module) -> nn.Module:
    """Kernels in the memory layout that convolutions are fastest in, in place."""
    for parameter in module.parameters():
        parameter.data = channels_last(parameter.data)
    return module


def channels_last(tensor: Tensor) -> Tensor:
    """The same values, laid out channels-last where there are two or three spatial axes."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = layouts.get(tensor.dim())
    return tensor if layout is None else tensor.contiguous(memory_format=layout)
