"""A copy of a network for gradients only: frozen, folded, channels-last, in bf16 but for one layer.

The FIRST layer stays fp32: bf16 cannot hold a small perturbation of a bright pixel, and with the
first layer in bf16 the attack is measurably too weak (DESIGN, rule 1). A folded copy serves only
after its fp32 logits and input gradients matched the original's on a probe; a convolution shared
by two norms, for instance, folds silently wrong.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental import optimization

from segbench.engine.precision import Precision

Door = Callable[[Any, Tensor], Tensor]
"""(what the network returned, images) -> canonical logits."""

_WEIGHTED = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class GradientCopy:
    """A network to take gradients of, and how it was made (``bf16 folded``, ``fp32``, ...)."""

    module: nn.Module
    name: str
    autocast: Callable[[], AbstractContextManager[Any]]


def prepare_gradient_copy(
    original: nn.Module, precision: Precision, probe: Tensor, door: Door
) -> GradientCopy:
    """The fastest copy that is honest here; ``probe`` is (B, C, *spatial) in [0, 1]."""
    folded = fold_batch_norm(original)
    if folded is not None and not _same_gradients(folded, original, probe, door):
        folded = None
    module = copy.deepcopy(original) if folded is None else folded
    suffix = "" if folded is None else " folded"
    if precision.name == "fp32":
        return GradientCopy(module, "fp32" + suffix, nullcontext)
    _to_bfloat16(module, _first_weighted_layer(module, probe))
    device = probe.device.type

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device, torch.bfloat16, cache_enabled=False)

    return GradientCopy(module, "bf16" + suffix, autocast)


def fold_batch_norm(original: nn.Module) -> nn.Module | None:
    """A copy with batch norms folded into convolutions; None where the graph does not allow it."""
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in original.modules()):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # fuse() deep-copies, traces and folds; a network that cannot be traced says so by
            # any of these, and then simply serves unfolded.
            folded = optimization.fuse(original, no_trace=False)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, KeyError):
        return None
    return folded.eval().requires_grad_(False)


class _Fp32Layer(nn.Module):
    """A layer run outside autocast, in fp32, on an fp32 input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return self.layer(inputs.float()).bfloat16()  # type: ignore[no-any-return]


def _to_bfloat16(module: nn.Module, first: str | None) -> None:
    """Pre-cast the weights autocast would cast at every step, all but the first layer's."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, _WEIGHTED) and name != first:
            layer.to(torch.bfloat16)
    if first is not None:
        parent = module.get_submodule(first.rpartition(".")[0])
        setattr(parent, first.rpartition(".")[2], _Fp32Layer(module.get_submodule(first)))


def _first_weighted_layer(module: nn.Module, probe: Tensor) -> str | None:
    """The name of the first convolution or linear layer that a forward pass enters."""
    entered: list[str] = []
    hooks = [
        layer.register_forward_pre_hook(lambda *_, name=name: entered.append(name))
        for name, layer in module.named_modules()
        if isinstance(layer, _WEIGHTED)
    ]
    try:
        with torch.no_grad():
            module(probe[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return entered[0] if entered else None


def _same_gradients(folded: nn.Module, original: nn.Module, probe: Tensor, door: Door) -> bool:
    logits, gradient = _probe(original, probe, door)
    try:
        folded_logits, folded_gradient = _probe(folded, probe, door)
    except RuntimeError:
        return False
    return _close(folded_logits, logits) and _close(folded_gradient, gradient)


def _probe(module: nn.Module, probe: Tensor, door: Door) -> tuple[Tensor, Tensor]:
    images = probe.detach().clone().requires_grad_()
    logits = door(module(images), images)
    # Weights that differ per logit, so that no sign error can cancel.
    weights = torch.linspace(-1, 1, logits[0].numel(), device=logits.device)
    (gradient,) = torch.autograd.grad((logits.flatten(1) * weights).sum(), images)
    return logits.detach(), gradient


def _close(value: Tensor, reference: Tensor) -> bool:
    error = torch.linalg.vector_norm(value - reference)
    return bool(error <= _TOLERANCE * torch.linalg.vector_norm(reference) + 1e-12)
