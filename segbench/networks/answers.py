"""Where in a network's answer its prediction is, and in which layout.

An answer may be a tensor, or lists, dictionaries and dataclasses of them, one within another. Every
tensor in it that has the images' size, or a half or a quarter of it, may be the prediction. Where
several remain it cannot be known which one is, so the user is asked (``--output``), never guessed
for; the largest of a list of one channel count, as deep supervision gives them, is none of several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from segbench.errors import UserError

Place = tuple[Any, ...]
"""The keys and indices that lead to a tensor, ``.name`` an attribute; () is the answer itself."""

Layout = Literal["first", "last", "none"]
"""Where its channels are: the second axis, the last one, or no axis."""

SHARES = (2, 4, 8, 16, 32)
"""Answers at one of these fractions of the images' size are enlarged."""

_NAMED = ("logits", "out")  # what transformers and torchvision call the main answer
_AUXILIARY = "aux"
_DEPTH = 8  # of lists in lists


class AnswerError(UserError):
    """No padding changes it: which tensor is the prediction, the user must say."""


@dataclass(frozen=True, eq=False)
class Found:
    """A tensor that may be the prediction.

    Attributes:
        share: how many times smaller than the images it is, along every axis.
        plausible: whether it has as many channels as the data's classes need.
        beside: how many other tensors there are in the answer, unless the user has said which.
    """

    place: Place
    tensor: Tensor
    layout: Layout
    share: int
    plausible: bool
    beside: int = 0


def find_prediction(
    answer: Any, images: Tensor, classes: int | None = None, output: str = ""
) -> Found | None:
    """The prediction for images (B, C, *spatial), None where nothing has a fitting size.

    Args:
        classes: K of the data, None where that is not known.
        output: what ``--output`` says.

    Raises:
        AnswerError: it holds no tensor at all, several that may be it, or none of that name.
    """
    tensors = dict(_tensors(answer))
    if not tensors:
        raise AnswerError(f"the network returned {_described(answer)}; expected logits as a tensor")
    if output:
        place = _named(output, answer, tensors)
        tensors = {place: tensors[place]}
    sized = [_fitting(place, tensor, images, classes) for place, tensor in tensors.items()]
    found = [one for one in sized if one]
    main = [one for one in found if one.plausible and _last(one) == _NAMED[0]]
    if len(main) == 1:  # of features and logits of another size, as transformers names them
        found = [one for one in found if one is main[0] or one.share == main[0].share]
    found = [one for one in found if one.plausible] or found
    largest = min((one.share for one in found), default=0)
    rank = [one for one in found if one.share == largest]
    if not rank or (largest > 1 and len(rank) < len(found) and not rank[0].plausible):
        return None
    alike = classes is None or len(rank) == len(found) or _supervised(found)
    return replace(_only(rank if alike else found, images), beside=len(tensors) - 1)


def pick(answer: Any, place: Place) -> Tensor:
    """The tensor at a place of an answer."""
    for step in place:
        attribute = isinstance(step, str) and step.startswith(".")
        answer = getattr(answer, step[1:]) if attribute else answer[step]
    return answer  # type: ignore[no-any-return]


def place_text(place: Place) -> str:
    """A place as ``--output`` takes it, such as ``1``, ``out`` or ``aux.0``."""
    return ".".join(str(step).removeprefix(".") for step in place)


def channels_second(tensor: Tensor, layout: Layout) -> Tensor:
    """(B, K, *spatial), whatever the layout."""
    if layout == "none":
        return tensor.unsqueeze(1)
    return tensor.movedim(-1, 1) if layout == "last" else tensor


def shapes_in(answer: Any) -> str:
    """Every tensor of an answer with its shape, for a sentence."""
    tensors = list(_tensors(answer))
    named = [f"{place_text(p) or 'its answer'} {tuple(t.shape)}" for p, t in tensors]
    return ", ".join(named) or _described(answer)


def _tensors(answer: Any, place: Place = ()) -> Iterator[tuple[Place, Tensor]]:
    """Every tensor of floating point in an answer; labels are no prediction to differentiate."""
    if isinstance(answer, Tensor):
        if answer.is_floating_point():
            yield place, answer
    elif len(place) < _DEPTH:
        for step, part in _parts(answer):
            yield from _tensors(part, (*place, step))


def _parts(answer: Any) -> list[tuple[Any, Any]]:
    if isinstance(answer, Mapping):
        return list(answer.items())
    if isinstance(answer, (tuple, list)):
        return list(enumerate(answer))
    if is_dataclass(answer) and not isinstance(answer, type):
        return [(f".{f.name}", getattr(answer, f.name)) for f in fields(answer)]
    held = getattr(answer, "__dict__", {})
    return [(f".{name}", part) for name, part in held.items() if not name.startswith("_")]


def _fitting(place: Place, tensor: Tensor, images: Tensor, classes: int | None) -> Found | None:
    """What a tensor would be as a prediction; None where its size fits in no layout."""
    axes, size = images.dim() - 2, tuple(images.shape[2:])
    shapes: dict[Layout, tuple[int, ...]] = {}
    if tensor.dim() == axes + 2:
        shapes = {"first": tuple(tensor.shape[2:]), "last": tuple(tensor.shape[1:-1])}
    elif tensor.dim() == axes + 1:
        shapes = {"none": tuple(tensor.shape[1:])}
    if not shapes or len(tensor) != len(images):
        return None
    found = []
    for layout, shape in shapes.items():
        channels = {"first": 1, "last": -1}.get(layout)
        count = 1 if channels is None else tensor.shape[channels]
        likely = classes is None or count in _counts(classes)
        if (share := _share(size, shape)) and (layout == "first" or likely):
            found.append(Found(place, tensor, layout, share, likely))
    return min(found, key=lambda one: (one.share, not one.plausible), default=None)


def _counts(classes: int) -> tuple[int, ...]:
    """How many channels logits of so many classes may have."""
    return (classes, 1) if classes == 2 else (classes, classes - 1)


def _share(size: Sequence[int], shape: Sequence[int]) -> int | None:
    shares = {whole // part for whole, part in zip(size, shape, strict=True) if part}
    share = shares.pop() if len(shares) == 1 else 0
    fits = share in (1, *SHARES) and all(
        part * share == whole for whole, part in zip(size, shape, strict=True)
    )
    return share if fits else None


def _only(found: Sequence[Found], images: Tensor) -> Found:
    """The one that it must be, or a refusal that names them all."""
    first = found[0]
    if all(torch.equal(one.tensor, first.tensor) for one in found[1:]):
        return first
    for one in found:  # the logits beside their own probabilities
        if all(other is one or _activated(one, other) for other in found):
            return one
    main = [one for one in found if _last(one) in _NAMED]
    others = [one for one in found if one not in main]
    if len(main) == 1 and all(_AUXILIARY in place_text(one.place) for one in others):
        return main[0]
    listed = "; ".join(
        f"{place_text(one.place)} {tuple(one.tensor.shape)}, {_looks(one)}" for one in found
    )
    options = " or ".join(f"--output {place_text(one.place)}" for one in found)
    raise AnswerError(
        f"the network answers images {tuple(images.shape)} with several tensors that may be its "
        f"prediction ({listed}); say which one is: {options}"
    )


def _supervised(found: Sequence[Found]) -> bool:
    """Whether they are lists of one channel count, as a network gives at every depth."""
    counts = {channels_second(one.tensor, one.layout).shape[1] for one in found}
    return len(counts) == 1 and all(isinstance(step, int) for one in found for step in one.place)


def _last(found: Found) -> str:
    """The last step of its place, as text."""
    return str(found.place[-1]).removeprefix(".") if found.place else ""


def _activated(logits: Found, other: Found) -> bool:
    """Whether a tensor is the softmax or sigmoid of another one."""
    a, b = (channels_second(one.tensor, one.layout).detach() for one in (logits, other))
    return a.shape == b.shape and (
        torch.allclose(a.softmax(1), b, atol=1e-5) or torch.allclose(a.sigmoid(), b, atol=1e-5)
    )


def _looks(found: Found) -> str:
    """What the numbers of a tensor look like."""
    values = channels_second(found.tensor, found.layout).detach().float()
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        if bool((values == values.round()).all()):
            return "zeros and ones, as labels are"
        if values.shape[1] > 1 and torch.allclose(values.sum(1), torch.ones(()).to(values)):
            return "probabilities that sum to one"
        return "numbers within 0 and 1, as probabilities are"
    if low >= -1 and high <= 1:
        return "numbers within -1 and 1, as those of a tanh are"
    return f"numbers from {low:.3g} to {high:.3g}"


def _named(output: str, answer: Any, tensors: Mapping[Place, Tensor]) -> Place:
    """The place that ``--output`` means: an index (also from the end), a name, or a path."""
    names = {place_text(place): place for place in tensors}
    if output in names:
        return names[output]
    if output.startswith("-") and output[1:].isdigit() and isinstance(answer, (tuple, list)):
        output = str(len(answer) + int(output))
    below = [place for name, place in names.items() if f"{name}.".startswith(f"{output}.")]
    if len(below) == 1:
        return below[0]
    several = "is several tensors of" if below else "is no tensor of"
    listed = ", ".join(name or "(the answer is one tensor)" for name in names)
    raise AnswerError(f"--output {output} {several} the network's answer, which holds {listed}")


def _described(answer: Any) -> str:
    names = f" with {', '.join(map(str, answer))}" if isinstance(answer, Mapping) else ""
    return f"{type(answer).__name__}{names}"
