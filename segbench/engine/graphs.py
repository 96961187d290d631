"""CUDA graphs of the gradient copy: a step is launched at once, not one kernel after another.

A graph is recorded for one batch size, so batches are padded to the next power of two; as finished
cases leave, at most six sizes occur. Each recording holds the memory of its step, so those of
images of another size are dropped when the next size comes. Forward and backward are recorded, the
loss between them is not: it changes from step to step. A network that cannot be recorded, because
it reads a value on the host for instance, or whose recording answers otherwise than the network
itself, stays as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from segbench.engine.memory import is_out_of_memory
from segbench.engine.precision import only_repeatable

_TOLERANCE = 2e-2  # relative; bf16 kernels may differ by this where the recording chose others


class Graphed(nn.Module):
    """A frozen network, replayed from recordings: images (B, C, *spatial) -> its own answer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._recorded: dict[tuple[int, ...], Callable[[Tensor], Tensor] | None] = {}

    def forward(self, images: Tensor) -> Any:
        """The network's answer; the gradient flows back to ``images``."""
        size = 1 << (len(images) - 1).bit_length()
        padded = torch.cat([images, images[-1:].expand(size - len(images), *images.shape[1:])])
        shape = tuple(padded.shape)
        if shape not in self._recorded:
            if any(other[1:] != shape[1:] for other in self._recorded):
                self._recorded.clear()
            self._recorded[shape] = self._record(padded)
        replay = self._recorded[shape]
        if replay is None:
            return self.network(images)
        return _own(replay(_own(padded)))[: len(images)]

    def _handed(self, images: Tensor) -> Any:
        """The answer to images that the network may write into."""
        return self.network(images.clone())

    def _record(self, images: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Replays forward and backward of this batch size; None where that is not faithful.

        One that gives the same twice over is preferred.
        """
        try:
            with only_repeatable():
                replay = self._recording(images)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            replay = None  # the attention that repeats itself needs more of it
        return replay or self._recording(images)

    def _recording(self, images: Tensor) -> Callable[[Tensor], Tensor] | None:
        sample = images.detach()
        with warnings.catch_warnings():
            # torch's own recorder asks about one leaf on several streams, and means to.
            warnings.simplefilter("ignore", UserWarning)
            return self._recording_of(sample)

    def _recording_of(self, sample: Tensor) -> Callable[[Tensor], Tensor] | None:
        try:
            expected = _probe(self._handed, _leaf(sample))
            recording = torch.cuda.make_graphed_callables(
                lambda x: self._handed(x), (_leaf(sample),)
            )
            replay = cast(Callable[[Tensor], Tensor], recording)
            found = _probe(replay, _leaf(sample))
        except (RuntimeError, AttributeError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            return None  # what it does cannot be recorded, or it answers with more than a tensor
        faithful = all(_close(a, b) for a, b in zip(found, expected, strict=True))
        return replay if faithful else None


def _leaf(images: Tensor) -> Tensor:
    """A copy of the images for one question: what autograd notes on a leaf stays with it."""
    return images.clone().requires_grad_()


class _Own(torch.autograd.Function):
    """A copy, there and back: what a recording returns is overwritten by its next replay."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].clone()


def _own(values: Tensor) -> Tensor:
    copied: Tensor = _Own.apply(values)  # type: ignore[no-untyped-call]
    return copied


def _probe(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    answer = network(images)
    weights = torch.linspace(-1, 1, answer[0].numel(), device=answer.device)
    (gradient,) = torch.autograd.grad((answer.float().flatten(1) * weights).sum(), images)
    return answer.detach().float().clone(), gradient.float().clone()


def _close(value: Tensor, reference: Tensor) -> bool:
    error = torch.linalg.vector_norm(value - reference)
    return bool(error <= _TOLERANCE * torch.linalg.vector_norm(reference) + 1e-12)
