"""Defences an adaptive attack goes around: layers without a gradient, and layers that draw.

BPDA (Athalye, Carlini & Wagner, ICML 2018, arXiv 1802.00420) goes forward through a layer and
backward through a differentiable stand-in. EOT (Athalye et al., ICML 2018, arXiv 1707.07397)
ascends the mean over draws. Both happen in the gradient copy and in the objective alone: every
label, decision and score is the original network's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from segbench.api import BringsRandomness, BringsStandIn
from segbench.engine.unpooling import Pooling, Unpooling
from segbench.errors import UserError


class StraightThrough(nn.Module):
    """A layer that answers as it is and has its stand-in's gradient; in fp32, like the image."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, BringsStandIn)
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        """Whatever the layer answers."""
        with torch.autocast(inputs.device.type, enabled=False):
            answer = self.layer(inputs.detach().float())
            stand_in = self.layer.stand_in(inputs.float())
        if answer.shape != stand_in.shape:
            raise UserError(
                f"the stand-in of layer {type(self.layer).__name__} returned shape "
                f"{tuple(stand_in.shape)}; expected its own, {tuple(answer.shape)}"
            )
        return _GradientOf.apply(answer, stand_in)  # type: ignore[no-any-return,no-untyped-call]


class Tracer(fx.Tracer):
    """Symbolic tracing that keeps declared layers whole, so that they are still found after it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Torch's own layers, those that declare something, and those that stand in for them."""
        kept = (StraightThrough, Pooling, Unpooling, BringsStandIn, BringsRandomness)
        return isinstance(m, kept) or super().is_leaf_module(m, module_qualified_name)


def has_stand_in(network: nn.Module) -> bool:
    """Whether a layer of it, or the network itself, brings a stand-in."""
    return any(isinstance(layer, BringsStandIn) for layer in network.modules())


def with_stand_ins(network: nn.Module) -> nn.Module:
    """A copy that has a gradient everywhere; the very network if no layer brings a stand-in."""
    if not has_stand_in(network):
        return network
    whole = nn.Sequential(copy.deepcopy(network))  # the network may itself be such a layer
    _replace_within(whole)
    return whole[0]


def layers_behind(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and layer of all that does not lie within a :class:`StraightThrough`."""
    inside = {
        id(part)
        for layer in network.modules()
        if isinstance(layer, StraightThrough)
        for part in layer.modules()
    }
    for name, layer in network.named_modules(remove_duplicate=False):
        if id(layer) not in inside:
            yield name, layer


def declared_samples(network: nn.Module) -> int:
    """How many draws a gradient is averaged over: the most that any layer asks for; 1 if none.

    Raises:
        UserError: a layer asks for something that is not a number from 1 up.
    """
    samples = 1
    for layer in network.modules():
        if isinstance(layer, BringsRandomness):
            asked = layer.eot_samples
            if not isinstance(asked, int) or asked < 1:
                raise UserError(
                    f"layer {type(layer).__name__} has eot_samples = {asked!r}; "
                    "expected a whole number from 1 up"
                )
            samples = max(samples, asked)
    return samples


def _replace_within(parent: nn.Module) -> None:
    for name, layer in parent.named_children():
        if isinstance(layer, BringsStandIn):
            setattr(parent, name, StraightThrough(layer))
        else:
            _replace_within(layer)


class _GradientOf(torch.autograd.Function):
    """The first tensor as it is, with the gradient of the second; both of one shape."""

    @staticmethod
    def forward(ctx: Any, answer: Tensor, stand_in: Tensor) -> Tensor:
        return answer.view_as(answer)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]
