"""What a layer in the middle of a network makes of its images, for losses that look there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segbench.engine.alone import PerThread
from segbench.engine.graphs import Graphed
from segbench.engine.handed import handed
from segbench.errors import UserError

DEEPEST = "deepest"
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def plain(module: nn.Module) -> nn.Module:
    """The network itself, whose layers can be watched: a recording has none, a thread its own."""
    if isinstance(module, PerThread):
        return module.own()
    return module.network if isinstance(module, Graphed) else module


def find_layer(module: nn.Module, layer: str, image: Tensor, name: str) -> str:
    """The full name of a layer, which has one answer (B, F, *places) to an image (1, C, *spatial).

    Args:
        name: of the network, for errors.

    Raises:
        UserError: no layer, or several, are meant; or its answer is not of that form.
    """
    names = [full for full, _ in module.named_modules() if full]
    if layer == DEEPEST:
        return _deepest(module, image, name)
    found = [full for full in names if full == layer or full.endswith(f".{layer}")]
    if layer in found:
        found = [layer]
    if len(found) != 1:
        many = f"means {', '.join(found[:5])}" if found else "is none of its layers"
        raise UserError(
            f"layer={layer!r} {many} of model {name}; name one, such as "
            f"{', '.join(names[-3:]) or 'none: it has no layers'}, or {DEEPEST}"
        )
    with torch.no_grad(), watched(module, found[0]) as seen:
        module(handed(image))
    _the_one(seen, found[0], name, image)
    return str(found[0])


@contextmanager
def watched(module: nn.Module, layer: str) -> Iterator[list[Any]]:
    """While it is open, what the layer of that name answers is added to the list."""
    seen: list[Any] = []
    hook = module.get_submodule(layer).register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        yield seen
    finally:
        hook.remove()


def only(seen: list[Any], layer: str, name: str, images: Tensor) -> Tensor:
    """The layer's one answer, in fp32.

    Raises:
        UserError: it was not asked once, or answered otherwise than (B, F, *places).
    """
    return _the_one(seen, layer, name, images).float()


def _the_one(seen: list[Any], layer: str, name: str, images: Tensor) -> Tensor:
    answer = seen[0] if len(seen) == 1 else None
    if not isinstance(answer, Tensor) or answer.dim() < 3 or len(answer) != len(images):
        raise UserError(
            f"layer {layer} of model {name} gives no one feature map (cases, features, places) for "
            "its images; choose another layer"
        )
    return answer


def _deepest(module: nn.Module, image: Tensor, name: str) -> str:
    """The last convolution of those with the fewest places."""
    sizes: dict[str, int] = {}
    hooks = [
        part.register_forward_hook(
            lambda _, __, out, full=full: sizes.update({full: math.prod(out.shape[2:])})
        )
        for full, part in module.named_modules()
        if isinstance(part, _CONVOLUTIONS)
    ]
    try:
        with torch.no_grad():
            module(handed(image))
    finally:
        for hook in hooks:
            hook.remove()
    if not sizes:
        raise UserError(f"model {name} shows no convolution to look into; name a layer=")
    return [full for full in sizes if sizes[full] == min(sizes.values())][-1]
