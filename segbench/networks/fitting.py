"""What images a network takes: at which padding, how many at once; and if none, why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from segbench.engine.handed import handed
from segbench.engine.memory import is_out_of_memory
from segbench.errors import MachineError, UserError
from segbench.networks.answers import Found, shapes_in

_POWERS = (1, 2, 4, 8, 16, 32, 64)
STRIDES = (*_POWERS, *(n for n in range(3, 64) if n not in _POWERS), 80, 96, 112, 128)
"""Multiples that images are padded to, in the order in which they are tried."""

_OTHER_TYPE = re.compile(
    r"dtype|expected scalar type|input type .* and (weight|bias) type|should be the same",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Fit:
    """How a network takes images.

    Attributes:
        stride: the multiple that they are padded to.
        alone: whether it takes one at a time only.
        found: its prediction for the first of the probes.
    """

    stride: int
    alone: bool
    found: Found


def find_fit(
    network: Callable[[Tensor], Any],
    probes: Sequence[Tensor],
    look: Callable[[Any, Tensor], Found | None],
    strides: Sequence[int] = STRIDES,
) -> Fit:
    """The smallest padding at which every answer holds a prediction for its images.

    Args:
        probes: images (B, C, *spatial), one batch for each shape.
        look: finds the prediction for images in an answer.
        strides: the multiples that are tried.

    Raises:
        UserError: there is none; the sentence says whether type, size or answer is the reason.
        RuntimeError: memory is full.
    """
    reason = ""
    for stride, padded in _paddings(probes, strides):
        for count in sorted({len(padded[0]), 1}, reverse=True):
            try:
                found = _ask(network, [images[:count] for images in padded], look)
                if count > 1 and isinstance(found, Found):
                    network(handed(min(padded, key=Tensor.numel)[:1]))  # one case may come alone
            except (UserError, MachineError):
                raise
            except Exception as error:  # a network may refuse a size in any way; the next may do
                if is_out_of_memory(error):
                    raise
                _refuse_type(error)
                reason = reason or _words(error)
                continue
            if isinstance(found, Found):
                return Fit(stride, count < len(padded[0]), found)
            reason = reason or found
            break  # of another size, however many are asked about
    raise UserError(
        f"it does not accept images of shape {tuple(probes[0].shape)}, nor padded to any of "
        f"{len(strides)} multiples up to {strides[-1]}: {reason}"
    )


def pad(images: Tensor, stride: int) -> Tensor:
    """(B, C, *spatial) with every size rounded up to a multiple, the edge repeated."""
    missing = [-size % stride for size in images.shape[2:]]
    if not any(missing):
        return images
    return F.pad(images, [w for size in reversed(missing) for w in (0, size)], mode="replicate")


def padded_once(probes: Iterable[Tensor], stride: int) -> list[Tensor]:
    """The probes (B, C, *spatial), padded: the first of all that get the same size."""
    found: dict[tuple[int, ...], Tensor] = {}
    for images in probes:
        size = tuple(size + -size % stride for size in images.shape[2:])
        if size not in found:
            found[size] = pad(images, stride)
    return list(found.values())


def _paddings(
    probes: Sequence[Tensor], strides: Sequence[int]
) -> Iterator[tuple[int, list[Tensor]]]:
    """Each stride that pads the probes to other sizes than those before it."""
    tried = set()
    for stride in strides:
        sizes = tuple(-size % stride for images in probes for size in images.shape[2:])
        if sizes not in tried:
            tried.add(sizes)
            yield stride, padded_once(probes, stride)


def _ask(
    network: Callable[[Tensor], Any],
    padded: Sequence[Tensor],
    look: Callable[[Any, Tensor], Found | None],
) -> Found | str:
    """The prediction for the first batch, where all have one of the same kind; else why not."""
    first: Found | None = None
    for images in padded:
        answer = network(handed(images))
        found = look(answer, images)
        if found is None:
            return (
                f"it returned {shapes_in(answer)} for images {tuple(images.shape)}; expected "
                "(B, classes, *spatial) of the same size, or of a half, quarter, ... of it"
            )
        first = first or found
        if (found.place, found.layout, found.share) != (first.place, first.layout, first.share):
            return "its answers to images of different sizes are of different kinds"
    assert first is not None
    return first


def _refuse_type(error: Exception) -> None:
    """UserError where the reason is a type of numbers, which no padding changes."""
    if isinstance(error, RuntimeError | TypeError) and _OTHER_TYPE.search(str(error)):
        raise UserError(
            f"it mixes types of numbers within itself, and its images are fp32: {_words(error)}"
        ) from error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
