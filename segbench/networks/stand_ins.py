"""A network that stands in for another is held against it wherever it is asked.

A conversion may be another network at some sizes alone: where a size is odd, and a layer rounds it
otherwise. So both are asked about images of every shape of the data, padded and on the scale that
the network gets; where their answers part, the original takes the stand-in's place. Where the
original takes only images padded further, the stand-in is shown those too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Case, Dataset
from segbench.engine.handed import handed
from segbench.engine.meeting import meets_cases, tell
from segbench.engine.memory import is_out_of_memory
from segbench.errors import MachineError, UserError
from segbench.networks.adapt import Adapted, adapt_network
from segbench.networks.fitting import STRIDES
from segbench.networks.loaded import LoadedModel, Original
from segbench.networks.own_network import OwnNetwork
from segbench.plugins.dataset import load_case

_SPREAD = 1e-3  # of how far the numbers of an answer lie apart
_ROUNDING = 1e-5  # of the largest of them


def adapt_model(
    model: LoadedModel,
    shapes: Collection[tuple[int, ...]],
    classes: int,
    case: Callable[[], Case | None],
    device: torch.device | str = "cpu",
) -> tuple[LoadedModel, Adapted]:
    """A network of the user's own adapted to images of these shapes, and the one that this is.

    Args:
        case: one of the data's, for a network that must meet one before it is asked; and for one
            that stands in for another, of which parts of its image are compared, and noise.

    Raises:
        UserError, MachineError: see ``adapt_network``.
    """

    def adapted(own: LoadedModel, strides: Sequence[int] = STRIDES) -> Adapted:
        return adapt_network(
            own.module, shapes, own.normalization, device,
            classes=classes, wishes=own.wishes, strides=strides,
        )  # fmt: skip

    if meets_cases(model.module) and (first := case()) is not None:
        tell(model.module, first)
    example: Tensor | None = None
    while (original := model.original) is not None:
        if example is None and (first := case()) is not None:
            example = torch.from_numpy(first.image)
        try:
            found = adapted(model)
            apart = _parted(model, original, found, _examples(shapes, example, device))
            if apart and apart.refused:
                padding = adapted(original.instead(apart.words)).stride
                found = adapted(model, (padding,))
                apart = _parted(model, original, found, _examples(shapes, example, device))
        except UserError as error:
            model = original.instead(f"what {original.by} makes of it does not serve: {error}")
            continue
        if not apart:
            return model, found
        model = original.instead(f"what {original.by} makes of it {apart.words}")
    return model, adapted(model)


@dataclass(frozen=True)
class _Apart:
    """That two networks are not the same one, in words; and whether the original gave no answer."""

    words: str
    refused: bool


def case_of(dataset: Dataset, case_ids: Iterable[str]) -> Callable[[], Case | None]:
    """The first of the cases that can be read, read when it is asked for."""

    def read() -> Case | None:
        for case_id in case_ids:
            with suppress(UserError, MachineError, OSError):
                return load_case(dataset, case_id)
        return None

    return read


def alike(answer: Any, expected: Any) -> bool:
    """Whether two networks have answered the same, tensors or tables of them, but for rounding."""
    ours, theirs = _listed(answer), _listed(expected)
    return len(ours) == len(theirs) and all(map(_same, ours, theirs))


def _same(answer: Tensor, expected: Tensor) -> bool:
    if answer.shape != expected.shape:
        return False
    ours, theirs = answer.double(), expected.double()
    largest, spread = float(theirs.abs().max()), float(theirs.max() - theirs.min())
    return bool(((ours - theirs).abs() <= _SPREAD * spread + _ROUNDING * largest).all())


def _listed(answer: Any) -> list[Tensor]:
    return list(answer.values()) if isinstance(answer, dict) else [answer]


def _examples(
    shapes: Iterable[tuple[int, ...]], image: Tensor | None, device: torch.device | str
) -> Iterable[Tensor]:
    """Noise in [0, 1] and a part of the image (2, C, *spatial), of every shape."""
    drawn = torch.Generator().manual_seed(1)
    for shape in sorted(set(shapes)):
        noise = torch.rand(shape, generator=drawn)
        real = noise.flip(-1) if image is None else _of_size(image, shape[1:])
        yield torch.stack([noise, real]).to(device)


def _of_size(image: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """The middle of an image (C, *spatial) in that size; where it has less, its edge repeated."""
    for axis, size in enumerate(spatial, start=1):
        spare = max(0, image.shape[axis] - size)
        image = image.narrow(axis, spare // 2, image.shape[axis] - spare)
    lacking = [size - have for size, have in zip(spatial, image.shape[1:], strict=True)]
    sides = [n for lack in reversed(lacking) for n in (0, lack)]
    return F.pad(image[None], sides, mode="replicate")[0]


def _parted(
    model: LoadedModel, original: Original, found: Adapted, examples: Iterable[Tensor]
) -> _Apart | None:
    """At which images the two answer otherwise; None where they do at none.

    Of shapes that are padded to the same one, images of the first are asked about.
    """
    ask, asked = found.module, set()
    with torch.no_grad():
        for images in examples:
            given = ask.given(images) if isinstance(ask, OwnNetwork) else images
            if given.shape in asked:
                continue
            asked.add(given.shape)
            size = " x ".join(map(str, given.shape[2:]))
            for part in torch.split(given, 1):
                try:
                    answers = [one(handed(part)) for one in (model.module, original.module)]
                except Exception as error:  # the original may refuse a size in any way
                    if is_out_of_memory(error):
                        raise MachineError("the network does not fit in memory") from error
                    reason = str(error).strip().partition("\n")[0]
                    return _Apart(f"takes images of {size}, and it does not ({reason})", True)
                if not alike(*answers):
                    return _Apart(f"answers otherwise about images of {size}", False)
    return None
