"""What segbench sees in a network: size, cost, kind of answer, and whether gradients flow."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segbench.engine.handed import handed, input_gradient
from segbench.engine.network import Network
from segbench.engine.precision import choose_precision, require_ieee_fp32
from segbench.networks import LoadedModel
from segbench.networks.adapt import Adapted, adapt_network
from segbench.networks.answers import place_text

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def inspect_network(
    name: str, model: LoadedModel, shape: tuple[int, ...], classes: int
) -> Mapping[str, str]:
    """Facts about a network on one image of shape (C, *spatial), each with its value in words.

    Raises:
        UserError: the network cannot take the image or answers with something else.
    """
    require_ieee_fp32()
    device = torch.device("cpu")
    adapted = None
    if model.own:
        adapted = adapt_network(
            model.module, [shape], model.normalization, classes=classes, wishes=model.wishes
        )
    module = adapted.module if adapted else model.module
    precision = choose_precision(device, "fp32")
    network = Network(name, module, classes, device, precision, adapted.marks if adapted else ())
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    network.prepare(images)
    stride = adapted.stride if adapted else getattr(module, "stride", None)
    return {
        "parameters": f"{sum(p.numel() for p in module.parameters()):,}",
        "FLOPs": f"{_flops(module, images[:1]) / 1e9:.3g} billion for an image of {shape}",
        "answer": _answer(adapted, classes),
        "stride": f"images are padded to multiples of {stride}" if stride else "unknown",
        "batch norm": _batch_norms(module, network.gradient.name),
        "gradients": _gradients(network, images[: network.largest_batch]),
        "marks": ", ".join(network.marks) or "none",
    }


def _flops(module: nn.Module, image: torch.Tensor) -> float:
    """Multiplications and additions of one forward pass."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(handed(image))
    return float(counter.get_total_flops())


def _answer(adapted: Adapted | None, classes: int) -> str:
    if adapted is None:
        return f"logits of {classes} classes"
    where = f", found at {place_text(adapted.place)!r} of its answer" if adapted.place else ""
    where += ", channels last" if adapted.layout == "last" else ""
    where += f", 1/{adapted.share} of the size, enlarged" if adapted.share > 1 else ""
    if adapted.probabilities is None:
        return f"logits{where}"
    how = "stripped" if adapted.stripped else "inverted, since it could not be found"
    return f"probabilities by {adapted.probabilities}{where}; the activation is {how}"


def _batch_norms(module: nn.Module, gradient_copy: str) -> str:
    count = sum(isinstance(layer, _BATCH_NORMS) for layer in module.modules())
    if not count:
        return "none"
    folded = "folded" if "folded" in gradient_copy else "not folded"
    return f"{count}, {folded} for gradients"


def _gradients(network: Network, images: torch.Tensor) -> str:
    """The share of pixels whose gradient of the summed squared margin is exactly zero."""
    images = images.clone().requires_grad_()
    logits = network.canonical(network.module(handed(images)), images)
    margin = logits[:, 1:] - logits[:, :1]
    if not margin.requires_grad:
        return "do NOT flow: the answer does not depend differentiably on the image"
    gradient = input_gradient(margin.square().sum(), images)
    if not gradient.isfinite().all():
        return "are NOT finite"
    zeros = float((gradient == 0).float().mean())
    verdict = "do NOT flow: all are zero" if zeros == 1 else "flow"
    return f"{verdict}; {zeros:.1%} of pixels have none"
