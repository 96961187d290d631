"""Where a maximum was: what max-unpooling passes on as whole numbers, without a gradient.

A network that pools, and later puts values back where the maxima were (SegNet, arXiv 1511.00561),
hands the places of the maxima round all its layers. Images move them, and no derivative says so: an
attack that follows autograd's gradient leaves such a network far more than there is. Here the
gradient of an unpooled value reaches all pixels of its window, each by how likely the maximum was
to be there: a softmax over the window, on the scale of what lies between two largest values. The
answer stays what it is, and so does the gradient by the value itself.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from segbench.engine.handed import handed

_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_UNPOOLS = (nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d)
_OPERATORS = (torch.ops.aten.max_unpool2d, torch.ops.aten.max_unpool3d)
_SCALE = 0.3  # of the mean distance of a window's two largest values
_FLAT = 1e-2  # of the largest values' mean size: where all but tie, a smaller distance is not real


class Pooling(nn.Module):
    """Max pooling whose places remember what was pooled."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Maxima and places (B, C, *spatial)."""
        values, places = self.layer(inputs)
        places.pooled_from = inputs
        return values, places


class Unpooling(nn.Module):
    """Max-unpooling with a gradient by where the maxima were."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.kernel: Any = layer.kernel_size

    def forward(
        self, values: Tensor, places: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        """The layer's answer (B, C, *spatial)."""
        answer: Tensor = self.layer(values, places, output_size)
        pooled = self.pooled_from(values, places)
        if pooled is None:
            return answer
        kernel = _per_axis(self.kernel, answer.dim() - 2)
        likely = _expected(values.detach(), pooled, kernel).to(answer.dtype)
        grown = answer.shape[2:]
        padding = chain.from_iterable(
            (0, to - of) for to, of in zip(grown[::-1], likely.shape[:1:-1], strict=True)
        )
        likely = nn.functional.pad(likely, list(padding))
        return answer + (likely - likely.detach())

    def pooled_from(self, values: Tensor, places: Tensor) -> Tensor | None:
        """What the places are maxima of; None where that is not known, or windows do not fit."""
        pooled: Tensor | None = getattr(places, "pooled_from", None)
        kernel = _per_axis(self.kernel, values.dim() - 2)
        return pooled if pooled is not None and _fits(pooled, values, kernel) else None


def has_unpooling(network: nn.Module) -> bool:
    """Whether it puts values back where maxima were."""
    return any(isinstance(layer, _UNPOOLS) for layer in network.modules())


def with_places(network: nn.Module) -> nn.Module:
    """A copy whose gradient knows of places; the very network if it does not unpool.

    They share their parameters.
    """
    if not has_unpooling(network):
        return network
    found = copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})
    for parent in list(found.modules()):
        for name, layer in parent._modules.items():
            if isinstance(layer, _UNPOOLS):
                setattr(parent, name, Unpooling(layer))
            elif isinstance(layer, _POOLS) and layer.return_indices and _is_plain(layer):
                setattr(parent, name, Pooling(layer))
    return found


class _Unpoolings(TorchDispatchMode):
    """Counts them, whoever asks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to hide it from a compiler torch imports that, for a second of every process."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in _OPERATORS
        return func(*args, **(kwargs or {}))


def count_unpoolings(network: nn.Module, probe: Tensor) -> tuple[int, int]:
    """How often a network by ``with_places`` unpools with a gradient by places, and how often not.

    Without one do a function, a script, and a layer whose windows do not lie side by side.

    Args:
        network: the copy.
        probe: images (B, C, *spatial).
    """
    known = 0

    def note(layer: Unpooling, inputs: tuple[Any, ...], _answer: Tensor) -> None:
        nonlocal known
        known += layer.pooled_from(*inputs[:2]) is not None

    layers = [layer for layer in network.modules() if isinstance(layer, Unpooling)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad(), _uncompiled(), _Unpoolings() as all_of_them:
            network(handed(probe))
    finally:
        for hook in hooks:
            hook.remove()
    return known, all_of_them.count - known


def _uncompiled() -> AbstractContextManager[Any]:
    """Whatever is compiled runs as it was written, lest what counts be compiled into it."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled without it
        return nullcontext()
    uncompiled: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return uncompiled


def _is_plain(layer: nn.Module) -> bool:
    """Whether its windows lie side by side."""
    dims = _POOLS.index(next(kind for kind in _POOLS if isinstance(layer, kind))) + 1
    sizes = {
        name: _per_axis(getattr(layer, name), dims)
        for name in ("kernel_size", "stride", "padding", "dilation")
    }
    side_by_side = sizes["kernel_size"] == sizes["stride"] and not layer.ceil_mode
    return side_by_side and not any(sizes["padding"]) and set(sizes["dilation"]) == {1}


def _per_axis(size: int | Sequence[int], dims: int) -> tuple[int, ...]:
    return (size,) * dims if isinstance(size, int) else tuple(size)


def _fits(pooled: Tensor, values: Tensor, kernel: Sequence[int]) -> bool:
    """Whether the values are one for each window of what was pooled."""
    windows = [length // k for length, k in zip(pooled.shape[2:], kernel, strict=True)]
    return [*pooled.shape[:2], *windows] == [*values.shape]


def _expected(values: Tensor, pooled: Tensor, kernel: Sequence[int]) -> Tensor:
    """The values (B, C, *windows) spread over their windows by likelihood (B, C, *spatial)."""
    dims = len(kernel)
    lengths = [n * k for n, k in zip(values.shape[2:], kernel, strict=True)]
    whole = pooled
    for axis, length in enumerate(lengths):
        whole = whole.narrow(2 + axis, 0, length)
    cut = chain.from_iterable(zip(values.shape[2:], kernel, strict=True))
    apart = whole.float().reshape(*values.shape[:2], *cut)
    order = (0, 1, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2))
    windows = apart.permute(order).flatten(2 + dims)
    two = windows.detach().topk(2, -1).values
    gap = (two[..., 0] - two[..., 1]).flatten(2).mean(2)
    least = _FLAT * two[..., 0].abs().flatten(2).mean(2).clamp_min(torch.finfo(two.dtype).eps)
    scale = _SCALE * gap.maximum(least).view(*values.shape[:2], *[1] * (dims + 1))
    spread = values[..., None] * torch.softmax(windows / scale, -1)
    back = [0, 1, *chain.from_iterable((2 + axis, 2 + dims + axis) for axis in range(dims))]
    apart = spread.reshape(*values.shape, *kernel).permute(back)
    return apart.reshape(*values.shape[:2], *lengths)
