"""A user's own network as segbench wants one: [0, 1] images of any size in, logits out.

What has to be done is found out on probe images: which part of the answer is the logits, whether
they are probabilities, and to what multiple images must be padded. A network that needs nothing
stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.api import BringsRandomness, Output
from segbench.engine.memory import is_out_of_memory
from segbench.errors import MachineError, UserError, no_exit
from segbench.networks.channels import channels_seen, convert_channels, rule_for
from segbench.networks.normalize import Normalization
from segbench.networks.probabilities import Kind, invert, kind_of_probabilities, without_activation

PROBABILITIES = "probabilities"
"""The mark of a network whose final activation could not be stripped: inverting a saturated
probability hides the gradient."""

STRIDES = (1, 2, 4, 8, 16, 32, 64)
_KEYS = ("logits", "out", "pred", "masks", "main", "output")

Key = str | int | None


@dataclass(frozen=True, eq=False)
class Adapted:
    """A network made ready for the engine, and what was found out about it.

    Attributes:
        key: where in its answer the logits are, None if they are the answer.
        probabilities: what its answer was before, None for logits.
        stripped: whether the final activation was taken away, not inverted.
        stride: the multiple that images are padded to.
        marks: why its rows may not be trusted.
    """

    module: nn.Module
    key: Key
    probabilities: Kind | None
    stripped: bool
    stride: int
    marks: tuple[str, ...]


def adapt_network(
    network: nn.Module,
    shapes: Iterable[tuple[int, ...]],
    normalization: Normalization | None = None,
    device: torch.device | str = "cpu",
) -> Adapted:
    """Find out what a network needs for images of these shapes (C, *spatial), and give it.

    Raises:
        UserError: it takes none of the images at any padding, or its answer holds no logits.
        MachineError: it does not fit in memory, or it tries to end the process.
    """
    network = network.to(device).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    try:
        return _adapted(network, _probes(shapes, 2, device), normalization)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    try:
        return _adapted(network, _probes(shapes, 1, device), normalization)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MachineError("the network does not fit in memory, not even with one image") from error


def _probes(
    shapes: Iterable[tuple[int, ...]], count: int, device: torch.device | str
) -> list[Tensor]:
    """So many random images (count, C, *spatial) of every shape."""
    cpu = torch.Generator().manual_seed(0)
    drawn = [torch.rand(2, *shape, generator=cpu) for shape in sorted(set(shapes))]
    return [images[:count].to(device) for images in drawn]


def _adapted(
    network: nn.Module, probes: Sequence[Tensor], normalization: Normalization | None
) -> Adapted:
    scale = Scale(normalization, probes[0].dim()) if normalization else nn.Identity()
    scale = scale.to(probes[0].device)
    with torch.no_grad(), no_exit("the network"):
        try:
            stride, answer = _find_stride(network, [scale(probe) for probe in probes])
        except UserError as error:
            raise _explain(error, network, probes) from error
        key = _find_key(answer)
        padded = pad(scale(probes[0]), stride)
        kind = kind_of_probabilities(lambda x: _pick(network(x), key), padded)
        stripped = without_activation(network, padded, key, kind) if kind else None
    inverted: Kind | None = kind if stripped is None else None
    unchanged = stride == 1 and key is None and inverted is None and normalization is None
    inner = network if stripped is None else stripped
    module = inner if unchanged else OwnNetwork(inner, scale, stride, key, inverted)
    if module is not network:
        _keep_declarations(network, module)
    marks = (PROBABILITIES,) if inverted else ()
    return Adapted(module, key, kind, stripped is not None, stride, marks)


class OwnNetwork(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> the network's logits (B, K, *spatial)."""

    def __init__(
        self,
        network: nn.Module,
        scale: nn.Module,
        stride: int,
        key: Key,
        probabilities: Kind | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.scale = scale
        self.stride = stride
        self.key = key
        self.probabilities = probabilities

    def forward(self, images: Tensor) -> Tensor:
        """Scale, pad, ask, pick, invert, crop."""
        logits = _pick(self.network(pad(self.scale(images), self.stride)), self.key)
        if self.probabilities is not None:
            logits = invert(logits, self.probabilities)
        return crop(logits, images)


class Scale(nn.Module):
    """[0, 1] images (B, C, *spatial) on the scale that a network was made for."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalization: Normalization, dims: int) -> None:
        super().__init__()
        column = (1, -1, *[1] * (dims - 2))
        self.channels = normalization.channels
        self.per_image = normalization.per_image
        self.axes = tuple(range(1, dims))
        self.register_buffer("mean", torch.tensor(normalization.mean).reshape(column))
        self.register_buffer("std", torch.tensor(normalization.std).reshape(column))

    def forward(self, images: Tensor) -> Tensor:
        """The same shape, but for the channels where ``--channels`` was given."""
        images = convert_channels(images, self.channels)
        if self.per_image:
            centred = images - images.mean(self.axes, keepdim=True)
            variance = centred.square().mean(self.axes, keepdim=True)
            return centred / (variance + 1e-12).sqrt()
        return (images - self.mean) / self.std


def pad(images: Tensor, stride: int) -> Tensor:
    """(B, C, *spatial) with every size rounded up to a multiple, the edge repeated."""
    missing = [-size % stride for size in images.shape[2:]]
    if not any(missing):
        return images
    return F.pad(images, [w for size in reversed(missing) for w in (0, size)], mode="replicate")


def crop(logits: Tensor, images: Tensor) -> Tensor:
    """The part of logits (B, K, *padded) that lies over the images (B, C, *spatial)."""
    for axis in range(2, images.dim()):
        logits = logits.narrow(axis, 0, images.shape[axis])
    return logits


# They branch on shapes: symbolic tracing keeps them as one step.
torch.fx.wrap("pad")
torch.fx.wrap("crop")
torch.fx.wrap("convert_channels")


def _find_stride(network: nn.Module, images: Sequence[Tensor]) -> tuple[int, Any]:
    """The smallest padding at which every answer has its images' size, and one such answer."""
    reason = ""
    for stride in STRIDES:
        try:
            padded = [pad(batch, stride) for batch in images]
            answers = [network(batch) for batch in padded]
        except Exception as error:  # a network may refuse a size in any way; the next may do
            if is_out_of_memory(error):
                raise
            reason = reason or f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            continue
        logits = [_pick(answer, _find_key(answer)) for answer in answers]
        if all(z.shape[2:] == x.shape[2:] for z, x in zip(logits, padded, strict=True)):
            return stride, answers[0]
        reason = reason or (
            f"it returned shape {tuple(logits[0].shape)}; expected (B, classes, *spatial) of the "
            "same size"
        )
    raise UserError(
        f"it does not accept images of shape {tuple(images[0].shape)}, nor padded to a "
        f"multiple of up to {STRIDES[-1]}: {reason}"
    )


def _explain(error: UserError, network: nn.Module, probes: Sequence[Tensor]) -> UserError:
    """The refusal, or the option that would have helped: ``--channels``, never taken unasked."""
    count = probes[0].shape[1]
    rule = rule_for(count)
    try:
        _find_stride(network, [convert_channels(probe, rule) for probe in probes])
    except UserError:
        return error
    return UserError(
        f"it takes {channels_seen(rule, count)}-channel images, but the data's have {count}; give "
        f"--channels {rule} to have them converted inside the model"
    )


def _find_key(answer: Any) -> Key:
    """Where the logits are: the answer itself, its first tensor, or the usual names."""
    if isinstance(answer, Tensor):
        return None
    if isinstance(answer, (tuple, list)):
        tensors: list[Any] = [i for i, part in enumerate(answer) if isinstance(part, Tensor)]
    elif isinstance(answer, Mapping):
        found = [name for name, part in answer.items() if isinstance(part, Tensor)]
        tensors = [name for name in _KEYS if name in found] or (found if len(found) == 1 else [])
    else:
        tensors = []
    if not tensors:
        names = f" with {', '.join(map(str, answer))}" if isinstance(answer, Mapping) else ""
        raise UserError(
            f"the network returned {type(answer).__name__}{names}; expected logits as a tensor, "
            f"first in a tuple or list, or in a dictionary under {', '.join(_KEYS)}"
        )
    return tensors[0]  # type: ignore[no-any-return]


def _pick(answer: Any, key: Key) -> Tensor:
    return answer if key is None else answer[key]  # type: ignore[no-any-return]


def _keep_declarations(network: nn.Module, module: nn.Module) -> None:
    """What a network declares beside its layers goes with it."""
    output: Output | None = getattr(network, "output", None)
    if output is not None:
        module.output = output  # type: ignore[assignment]
    if hasattr(network, "postprocess"):
        module.postprocess = network.postprocess
    if isinstance(network, BringsRandomness):
        module.eot_samples = network.eot_samples  # type: ignore[assignment]
