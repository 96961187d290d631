"""A copy of a network for gradients only: frozen, folded, channels-last, in bf16 but for one layer.

The FIRST layer stays fp32: bf16 cannot hold a small perturbation of a bright pixel, and with the
first layer in bf16 the attack is measurably too weak (DESIGN, rule 1). First is every layer that
the image enters with no other layer in between: a residual block has two of them. A folded copy
serves only after its fp32 logits and input gradients matched the original's on a probe; a
convolution shared by two norms, for instance, folds silently wrong. A network that meets its cases
is not folded: a graph knows of the case alone that it was traced with. A bf16 copy serves only if
it answers at all, since a network may insist on fp32 somewhere inside, and only for losses whose
gradient it has: see ``fidelity.py``.
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

from segbench.engine.front import Tracer, layers_behind
from segbench.engine.graphs import Graphed
from segbench.engine.handed import channels_last, handed, input_gradient, laid_out
from segbench.engine.meeting import meets_cases
from segbench.engine.memory import is_out_of_memory
from segbench.engine.precision import Precision, attention_by_products

Door = Callable[[Any, Tensor], Tensor]
"""(what the network returned, images) -> canonical logits."""

_WEIGHTED = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip
_UNTRACEABLE = (
    AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
_LOGITS_TOLERANCE = 1e-4
# Where rounding moves a ReLU across zero the gradient jumps: two memory layouts of one and the same
# ResNet-50 differ by up to 1 %. What is folded wrong shows in the logits.
_GRADIENT_TOLERANCE = 5e-2


@dataclass(frozen=True, eq=False)
class GradientCopy:
    """A network to take gradients of, and how it was made (``bf16 folded``, ``fp32``, ...).

    Attributes:
        exact: the fp32 copy that one of lower precision stands for; None for that one itself.
    """

    module: nn.Module
    name: str
    autocast: Callable[[], AbstractContextManager[Any]]
    exact: GradientCopy | None = None

    def saved_bytes(self, image: Tensor) -> int:
        """Bytes of distinct activations, not weights, that a gradient of a case keeps alive."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        weights = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        seen: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        # A recording keeps its own buffers, and none of them for autograd.
        asked: nn.Module = self.module
        attention: AbstractContextManager[Any] = nullcontext()
        if isinstance(self.module, Graphed):
            asked, attention = self.module.network, attention_by_products()
        leaf = laid_out(image.detach()).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):  # noqa: SIM117
            with torch.enable_grad(), self.autocast(), attention:
                asked(handed(leaf))
        return sum(seen.values())


def prepare_gradient_copy(
    original: nn.Module, precision: Precision, probe: Tensor, door: Door
) -> GradientCopy:
    """The fastest copy that is honest here; ``probe`` is (B, C, *spatial) in [0, 1]."""
    folded = None if meets_cases(original) else fold_batch_norm(original)
    if folded is not None and not _same_gradients(folded, original, probe, door):
        folded = None
    suffix = "" if folded is None else " folded"
    fp32 = GradientCopy(original if folded is None else folded, "fp32" + suffix, nullcontext)
    if precision.name == "fp32":
        return fp32
    module = copy.deepcopy(fp32.module)
    _to_bfloat16(module, _first_layers(module, probe))
    device = probe.device.type

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device, torch.bfloat16, cache_enabled=False)

    try:
        with autocast():
            _probe(module, probe, door)
    except RuntimeError as error:  # layers that refuse a mixture of types
        if is_out_of_memory(error):
            raise
        return fp32
    return GradientCopy(module, "bf16" + suffix, autocast, fp32)


def fold_batch_norm(original: nn.Module) -> nn.Module | None:
    """A copy with batch norms folded into convolutions; None where the graph does not allow it."""
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in original.modules()):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # fuse() deep-copies and folds; a network that cannot be traced says so by any of
            # these, and then simply serves unfolded.
            traced = fx.GraphModule(original, Tracer().trace(original))
            folded = optimization.fuse(traced, no_trace=True)
    except (fx.proxy.TraceError, *_UNTRACEABLE):
        return None
    return folded.eval().requires_grad_(False)


class _Fp32Layer(nn.Module):
    """A layer run outside autocast, in fp32, on an fp32 input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            answer = self.layer(inputs.float()).bfloat16()
        on_gpu = answer.is_cuda and isinstance(self.layer, nn.Conv2d | nn.Conv3d)
        return channels_last(answer) if on_gpu else answer


def _to_bfloat16(module: nn.Module, first: list[nn.Module]) -> None:
    """Pre-cast the weights autocast would cast at every step, all but the first layers'."""
    kept = {id(parameter) for layer in first for parameter in layer.parameters()}
    for name, layer in list(layers_behind(module)):
        if layer in first:
            parent, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(parent), attribute, _Fp32Layer(layer))
        elif isinstance(layer, _WEIGHTED) and not kept & {id(p) for p in layer.parameters()}:
            layer.to(torch.bfloat16)
            for parameter in layer.parameters():
                if parameter.dim() in (4, 5):
                    parameter.data = channels_last(parameter.data)


def _first_layers(module: nn.Module, probe: Tensor) -> list[nn.Module]:
    """The weighted layers that the image enters through no other one.

    With every other weighted layer's output cut off from the image, these are the layers that a
    gradient can still reach.
    """
    first: list[nn.Module] = []

    def entering(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if layer not in first and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            first.append(layer)

    hooks = [
        hook
        for layer in {id(layer): layer for _, layer in layers_behind(module)}.values()
        if isinstance(layer, _WEIGHTED)
        for hook in (
            layer.register_forward_pre_hook(entering),
            layer.register_forward_hook(lambda _layer, _inputs, output: output.detach()),
        )
    ]
    try:
        with torch.enable_grad():
            module(handed(probe[:1].detach().clone().requires_grad_()))
    finally:
        for hook in hooks:
            hook.remove()
    return first


def _same_gradients(folded: nn.Module, original: nn.Module, probe: Tensor, door: Door) -> bool:
    logits, gradient = _probe(original, probe, door)
    try:
        folded_logits, folded_gradient = _probe(folded, probe, door)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return False
    return _close(folded_logits, logits, _LOGITS_TOLERANCE) and _close(
        folded_gradient, gradient, _GRADIENT_TOLERANCE
    )


def _probe(module: nn.Module, probe: Tensor, door: Door) -> tuple[Tensor, Tensor]:
    images = probe.detach().clone().requires_grad_()
    logits = door(module(handed(images)), images)
    # Weights that differ per logit, so that no sign error can cancel.
    weights = torch.linspace(-1, 1, logits[0].numel(), device=logits.device)
    total = (logits.flatten(1) * weights).sum()
    if not total.requires_grad:
        return logits, torch.zeros_like(images)
    return logits.detach(), input_gradient(total, images)


def _close(value: Tensor, reference: Tensor, tolerance: float) -> bool:
    error = torch.linalg.vector_norm(value - reference)
    return bool(error <= tolerance * torch.linalg.vector_norm(reference) + 1e-12)
