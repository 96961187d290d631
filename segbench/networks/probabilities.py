"""Networks that end in a sigmoid or softmax: their logits, from before that activation.

An attack needs logits: where a probability is saturated its gradient is zero in floating point,
which hides a weakness and does not cure it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from segbench.engine.front import Tracer
from segbench.engine.handed import handed
from segbench.engine.meeting import meets_cases
from segbench.engine.memory import is_out_of_memory
from segbench.networks.answers import Found, Place, channels_second, pick

Kind = Literal["sigmoid", "softmax"]

_MODULES: dict[Kind, tuple[type[nn.Module], ...]] = {
    "sigmoid": (nn.Sigmoid,),
    "softmax": (nn.Softmax, nn.Softmax2d),
}
_FUNCTIONS: dict[Kind, tuple[Any, ...]] = {
    "sigmoid": (torch.sigmoid, torch.special.expit, F.sigmoid, "sigmoid"),
    "softmax": (torch.softmax, F.softmax, torch.special.softmax, "softmax"),
}
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Probed:
    """What a network answers to images, and to louder ones where those leave something open.

    Attributes:
        answers: (B, K, *spatial) each.
        refused: whether it takes no louder images, so that extreme ones in range were shown.
    """

    answers: Sequence[Tensor]
    refused: bool = False


def probe_answers(
    answer: Callable[[Tensor], Tensor], images: Tensor, given: Callable[[Tensor], Tensor]
) -> Probed:
    """The answers to images, and to far louder noise of either sign.

    A network that checks the range of its images refuses the noise, which no attack would show it;
    then black, white, and noise of both, as any image may be.

    Args:
        answer: of images as the network gets them.
        images: (B, C, *spatial) in [0, 1].
        given: makes of them what the network gets.
    """
    shown = given(images)
    first = answer(handed(shown))
    if not _within(first) and not is_constant([first]):
        return Probed([first])
    noise = torch.randn(shown.shape, generator=torch.Generator().manual_seed(0))
    loud = 1e4 * noise.to(shown.device)
    if len(louder := _answered(answer, [loud, -loud])) == 2:
        return Probed([first, *louder])
    drawn = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    extremes = (images * 0, images * 0 + 1, drawn.round(), 1 - drawn.round())
    return Probed([first, *louder, *_answered(answer, map(given, extremes))], refused=True)


def _answered(answer: Callable[[Tensor], Tensor], probes: Iterable[Tensor]) -> list[Tensor]:
    """The answers to those of the probes that the network takes."""
    answers = []
    for probe in probes:
        try:
            answers.append(answer(handed(probe)))
        except Exception as error:  # it may refuse what is out of its range in any way
            if is_out_of_memory(error):
                raise
    return answers


def is_constant(answers: Sequence[Tensor]) -> bool:
    """Whether the answers to different images are all the same."""
    return all(torch.equal(one, answers[0][:1]) for part in answers for one in torch.split(part, 1))


def kind_of_probabilities(answers: Sequence[Tensor]) -> Kind | None:
    """What the answers (B, K, *spatial) of ``probe_answers`` are.

    Logits leave [0, 1] when the input is loud enough; probabilities cannot. Several channels that
    do not sum to one are separate sigmoids.
    """
    if not all(map(_within, answers)):
        return None
    if is_constant(answers):
        return None  # it says nothing
    if answers[0].shape[1] == 1:
        return "sigmoid"
    sums = torch.cat([p.sum(1).flatten() for p in answers])
    return "softmax" if bool((sums - 1).abs().max() < _TOLERANCE) else "sigmoid"


def _within(answer: Tensor) -> bool:
    return bool(((answer >= 0) & (answer <= 1)).all())


def without_activation(
    network: nn.Module, probes: Sequence[Tensor], found: Found, kind: Kind
) -> nn.Module | None:
    """A copy without its final activation, or None where that cannot be found.

    Looked for as the last module of the network, then as the last call of its traced graph; the
    copy is accepted only if the activation of its answer is the original's, for images (B, C,
    *spatial) of every shape.
    """
    for attempt in (_without_module, _without_call):
        candidate = attempt(network, probes[0], found.place, kind)
        if candidate is not None and all(
            _agrees(candidate, network, images, found, kind) for images in probes
        ):
            return candidate
    return None


def invert(p: Tensor, kind: Kind) -> Tensor:
    """Logits whose activation is p; finite where p is 0 or 1."""
    p = p.float()
    tiny = torch.finfo(p.dtype).tiny
    if kind == "softmax":
        return p.clamp_min(tiny).log()
    return p.clamp_min(tiny).log() - (1 - p).clamp_min(tiny).log()


def _without_module(
    network: nn.Module, images: Tensor, place: Place, kind: Kind
) -> nn.Module | None:
    outputs: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.setdefault(name, []).append(output)
        )
        for name, module in network.named_modules()
        if name and isinstance(module, _MODULES[kind])
    ]
    try:
        answer = pick(network(handed(images)), place)
    finally:
        for handle in handles:
            handle.remove()
    final = [name for name, seen in outputs.items() if len(seen) == 1 and seen[0] is answer]
    if not final:
        return None
    candidate = copy.deepcopy(network)
    parent, _, child = final[0].rpartition(".")
    setattr(candidate.get_submodule(parent), child, nn.Identity())
    return candidate


def _without_call(network: nn.Module, images: Tensor, place: Place, kind: Kind) -> nn.Module | None:
    if meets_cases(network):
        return None  # a graph knows of no case
    try:
        whole = copy.deepcopy(network)
        traced = fx.GraphModule(whole, Tracer().trace(whole))
    except Exception:  # networks refuse to be traced in any way; then there is no graph to cut
        return None
    output = next(node for node in traced.graph.nodes if node.op == "output")
    last: Any = output.args[0]
    for step in place:
        if isinstance(last, (tuple, list, dict)):
            last = last[step]
    if not isinstance(last, fx.Node) or last.target not in _FUNCTIONS[kind] or not last.args:
        return None
    before = last.args[0]
    assert isinstance(before, fx.Node)
    output.replace_input_with(last, before)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _agrees(
    candidate: nn.Module, network: nn.Module, images: Tensor, found: Found, kind: Kind
) -> bool:
    logits, p = (
        channels_second(pick(asked(handed(images)), found.place), found.layout)
        for asked in (candidate, network)
    )
    ours = logits.softmax(1) if kind == "softmax" else logits.sigmoid()
    return bool(torch.allclose(ours, p, atol=1e-5))
