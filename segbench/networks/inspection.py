"""What segbench sees in a network: size, cost, kind of answer, and whether gradients flow."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from segbench.api import Goal
from segbench.engine.handed import handed, input_gradient
from segbench.engine.network import Network
from segbench.engine.precision import Precision, choose_precision, require_ieee_fp32
from segbench.engine.unpooling import with_places
from segbench.networks import LoadedModel
from segbench.networks.adapt import Adapted
from segbench.networks.answers import place_text
from segbench.networks.stand_ins import adapt_model

if TYPE_CHECKING:
    from segbench.api import Case

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def inspect_network(
    name: str,
    model: LoadedModel,
    case: Case,
    classes: int,
    shapes: Collection[tuple[int, ...]] = (),
) -> Iterator[tuple[str, str]]:
    """Facts about a network on a case, each with its value in words; what takes long comes last.

    Args:
        shapes: (C, *spatial) of further images that it is to be asked about.

    Raises:
        UserError: the network cannot take the image or answers with something else.
    """
    require_ieee_fp32()
    model, adapted = _adapted(model, case, {case.image.shape, *shapes}, classes)
    module = adapted.module if adapted else model.module
    network, images = _prepared(name, model, adapted, case, classes)
    stride = adapted.stride if adapted else getattr(module, "stride", None)
    one = images[:1]
    yield "parameters", f"{sum(p.numel() for p in module.parameters()):,}"
    yield "FLOPs", f"{_flops(module, one) / 1e9:.3g} billion for an image of {case.image.shape}"
    yield "answer", _answer(adapted, classes)
    yield from model.shown.items()
    if model.licence:
        yield "licence", model.licence
    if stride or not model.shown:
        padding = f"images are padded to multiples of {stride}" if stride else "unknown"
        yield "stride", padding
    yield "batch norm", _batch_norms(module, network.copies.fast.name)
    yield "gradients", _gradients(network, images[: network.largest_batch])
    yield "marks", ", ".join(network.marks) or "none"
    for sentence in (*model.said, *(adapted.said if adapted else ())):
        yield "note", sentence
    yield "precision", _precision(network, model, one)
    yield "cost", _cost(network, one)


def _adapted(
    model: LoadedModel, case: Case, shapes: Collection[tuple[int, ...]], classes: int
) -> tuple[LoadedModel, Adapted | None]:
    if not model.own:
        return model, None
    return adapt_model(model, shapes, classes, lambda: case)


def _prepared(
    name: str, model: LoadedModel, adapted: Adapted | None, case: Case, classes: int
) -> tuple[Network, Tensor]:
    """The network made ready, and the images that it is looked at on."""
    marks = adapted.marks if adapted else ()
    exact = model.exact or bool(marks)
    device = torch.device("cpu")
    reason = "inspected, whatever this machine prefers"
    precision = choose_precision(device, "fp32") if exact else Precision("bf16", reason)
    module = adapted.module if adapted else model.module
    network = Network(name, module, classes, device, precision, marks)
    if network.meets:
        images = torch.from_numpy(case.image)[None]
        network.meet([case])
    else:
        images = torch.rand(2, *case.image.shape, generator=torch.Generator().manual_seed(0))
    network.prepare(images)
    return network, images


def _flops(module: nn.Module, image: Tensor) -> float:
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


def _gradients(network: Network, images: Tensor) -> str:
    """The share of pixels whose gradient of the summed squared margin is exactly zero.

    The gradient is the one that attacks follow, which knows of places of maxima.
    """
    images = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = network.canonical(with_places(network.module)(handed(images)), images)
        margin = logits[:, 1:] - logits[:, :1]
        if not margin.requires_grad:
            return "do NOT flow: the answer does not depend differentiably on the image"
        gradient = input_gradient(margin.square().sum(), images)
    if not gradient.isfinite().all():
        return "are NOT finite"
    zeros = float((gradient == 0).float().mean())
    verdict = "do NOT flow: all are zero" if zeros == 1 else "flow"
    return f"{verdict}; {zeros:.1%} of pixels have none"


def _precision(network: Network, model: LoadedModel, image: Tensor) -> str:
    """Whether gradients in bf16 would be fp32's, by cross-entropy."""
    if network.copies.fast.exact is None:
        return "fp32 alone" if model.exact else "fp32 alone: it does not answer in bf16"
    truth = network.as_labels(network.exact_logits(image))
    copy = network.copies.of(_cross_entropy, Goal(truth, truth))
    verdict = "would serve" if copy is network.copies.fast else "would NOT serve, so fp32 does"
    return f"gradients in bf16 {verdict}: {network.copies.used[copy.name]}"


def _cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    pixels = F.cross_entropy(logits, goal.labels, reduction="none")
    return pixels.flatten(1).sum(1)


def _cost(network: Network, image: Tensor) -> str:
    """What one question takes on this machine's processor, in fp32."""

    def gradient() -> Any:
        leaf = image.clone().requires_grad_()
        with torch.enable_grad():
            answer = network.canonical(network.module(handed(leaf)), leaf)
            return input_gradient(answer.sum(), leaf) if answer.requires_grad else None

    forward, backward = _seconds(lambda: network.exact_logits(image)), _seconds(gradient)
    return f"{forward:.2g} s for a forward pass here, {backward:.2g} s for a gradient, in fp32"


def _seconds(ask: Callable[[], Any]) -> float:
    start = time.perf_counter()
    ask()
    return time.perf_counter() - start
