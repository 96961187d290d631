"""A user's own network as segbench wants one: [0, 1] images of any size in, logits out.

What has to be done is found out on probe images: which part of the answer is the prediction,
whether it is probabilities, and to what multiple images must be padded. A network that needs
nothing stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segbench.api import BringsRandomness, Output
from segbench.engine.memory import is_out_of_memory
from segbench.errors import MachineError, UserError, no_exit
from segbench.networks.answers import (
    Found,
    Layout,
    Place,
    find_prediction,
    place_text,
)
from segbench.networks.channels import channels_seen, convert_channels, rule_for
from segbench.networks.fitting import STRIDES, Fit, find_fit, pad, padded_once
from segbench.networks.normalize import Normalization
from segbench.networks.own_network import OwnNetwork, Scale
from segbench.networks.probabilities import (
    Kind,
    is_constant,
    kind_of_probabilities,
    probe_answers,
    without_activation,
)
from segbench.networks.wishes import NO_WISHES, Resize, Wishes

PROBABILITIES = "probabilities"
"""The mark of a network whose final activation could not be stripped: inverting a saturated
probability hides the gradient."""

CONSTANT = "constant-network"
"""The mark of a network that answers the same whatever its image is."""

_TAKEN = (
    "its answers lie between 0 and 1 and are taken for probabilities; louder images, which would "
    "tell them from logits, it refuses"
)


@dataclass(frozen=True, eq=False)
class Adapted:
    """A network made ready for the engine, and what was found out about it.

    Attributes:
        place: where in its answer the prediction is, () if it is the answer.
        layout: where the prediction has its channels.
        share: how many times smaller than the images it is.
        probabilities: what its answer was before, None for logits.
        stripped: whether the final activation was taken away, not inverted.
        stride: the multiple that images are padded to.
        alone: whether it is asked about one image at a time.
        marks: why its rows may not be trusted.
        said: what was done to it that the user should know, in sentences.
    """

    module: nn.Module
    place: Place
    layout: Layout
    share: int
    probabilities: Kind | None
    stripped: bool
    stride: int
    alone: bool
    marks: tuple[str, ...]
    said: tuple[str, ...]

    @property
    def identity(self) -> str:
        """All of it that changes an answer."""
        found = (self.place, self.layout, self.share, self.probabilities, self.stripped)
        return f"{found} {self.stride}"


def adapt_network(
    network: nn.Module,
    shapes: Iterable[tuple[int, ...]],
    normalization: Normalization | None = None,
    device: torch.device | str = "cpu",
    *,
    classes: int | None = None,
    wishes: Wishes = NO_WISHES,
    strides: Sequence[int] = STRIDES,
) -> Adapted:
    """Find out what a network needs for images of these shapes (C, *spatial), and give it.

    Args:
        classes: K of the data, which tells logits from features; None where it is not known.
        wishes: of which ``output`` and ``resize_logits`` are heeded here.
        strides: the multiples that images may be padded to, in the order in which they are tried.

    Raises:
        UserError: it takes none of the images at any padding, or it cannot be known which tensor
            of its answer is the prediction.
        MachineError: it does not fit in memory, raises something, or tries to end the process.
    """
    with _its_own_code():
        network, said = _as_fp32(network.to(device).eval())
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        door = _Door(network, normalization, classes, wishes, said, strides)
        for count in (2, 1):
            try:
                return door.adapted(_probes(shapes, count, device))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                lack = error
    raise MachineError("the network does not fit in memory, not even with one image") from lack


@contextmanager
def _its_own_code() -> Iterator[None]:
    """What a network raises here, and may raise in any way, becomes a sentence."""
    try:
        yield
    except (UserError, MachineError):
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise MachineError(f"it failed while it was made ready: {words}") from error


def _as_fp32(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The network in fp32, and the sentence that says what it was."""
    held = {t.dtype for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()}
    others = sorted(str(dtype).removeprefix("torch.") for dtype in held - {torch.float32})
    if not others:
        return network, ()
    names = " and ".join(others)
    return network.float(), (f"its weights are {names}; here it computes in fp32",)


def _probes(
    shapes: Iterable[tuple[int, ...]], count: int, device: torch.device | str
) -> list[Tensor]:
    """So many random images (count, C, *spatial) of every shape."""
    cpu = torch.Generator().manual_seed(0)
    drawn = [torch.rand(2, *shape, generator=cpu) for shape in sorted(set(shapes))]
    return [images[:count].to(device) for images in drawn]


@dataclass(frozen=True, eq=False)
class _Door:
    """What is known of a network before it is asked."""

    network: nn.Module
    normalization: Normalization | None
    classes: int | None
    wishes: Wishes
    said: tuple[str, ...]
    strides: Sequence[int]

    def adapted(self, probes: Sequence[Tensor]) -> Adapted:
        wanted = self.normalization
        scale = Scale(wanted, probes[0].dim()) if wanted else nn.Identity()
        scale = scale.to(probes[0].device)
        with torch.no_grad(), no_exit("the network"):
            try:
                scaled = [scale(probe) for probe in probes]
                fit = find_fit(self.network, scaled, self._look, self.strides)
            except UserError as error:
                raise self._explained(error, probes) from error
            found = fit.found
            ask = OwnNetwork(self.network, nn.Identity(), fit.stride, found, fit.alone)
            probed = probe_answers(
                ask.prediction, probes[0], lambda images: pad(scale(images), fit.stride)
            )
            kind = kind_of_probabilities(probed.answers)
            some = (scale(probe[: 1 if fit.alone else None]) for probe in probes)
            padded = padded_once(some, fit.stride)
            stripped = without_activation(self.network, padded, found, kind) if kind else None
        inverted: Kind | None = kind if stripped is None else None
        inner = self.network if stripped is None else stripped
        resize = self.wishes.resize_logits or "bilinear"
        module: nn.Module = OwnNetwork(inner, scale, fit.stride, found, fit.alone, inverted, resize)
        plain = (fit.stride, found.place, found.layout, found.share) == (1, (), "first", 1)
        if plain and inverted is None and wanted is None and not fit.alone:
            module = inner
        if module is not self.network:
            keep_declarations(self.network, module)
        marks = ((PROBABILITIES,) if inverted else ()) + (
            (CONSTANT,) if is_constant(probed.answers) else ()
        )
        taken = (_TAKEN,) if probed.refused and inverted else ()
        said = (*self.said, *_sentences(fit, resize), *taken)
        return Adapted(
            module, found.place, found.layout, found.share, kind, stripped is not None,
            fit.stride, fit.alone, marks, said,
        )  # fmt: skip

    def _look(self, answer: Any, images: Tensor) -> Found | None:
        return find_prediction(answer, images, self.classes, self.wishes.output)

    def _explained(self, error: UserError, probes: Sequence[Tensor]) -> UserError:
        """The refusal, or the option that would have helped; it is never taken unasked."""
        count = probes[0].shape[1]
        rule = rule_for(count)
        try:
            find_fit(self.network, [convert_channels(probe, rule) for probe in probes], self._look)
        except UserError:
            return error
        return UserError(
            f"it takes {channels_seen(rule, count)}-channel images, but the data's have {count}; "
            f"give --channels {rule} to have them converted inside the model"
        )


def _sentences(fit: Fit, resize: Resize) -> tuple[str, ...]:
    """What is done to the answers and images of a network, where that is worth a word."""
    found, said = fit.found, []
    if found.beside:
        said.append(f"of its answer {place_text(found.place)} is scored; --output takes another")
    if found.share > 1:
        said.append(
            f"its answer is 1/{found.share} of the images' size along every axis; it is enlarged "
            f"inside the network ({resize})"
        )
    if found.layout == "last":
        said.append(f"the channels of its answer {tuple(found.tensor.shape)} are taken to be last")
    if fit.alone:
        said.append("it takes one image at a time")
    return tuple(said)


def keep_declarations(network: nn.Module, module: nn.Module) -> None:
    """What a network declares beside its layers goes with it."""
    output: Output | None = getattr(network, "output", None)
    if output is not None:
        module.output = output  # type: ignore[assignment]
    if hasattr(network, "no_gradient"):
        module.no_gradient = network.no_gradient
    if hasattr(network, "postprocess"):
        module.postprocess = network.postprocess
    if isinstance(network, BringsRandomness):
        module.eot_samples = network.eot_samples  # type: ignore[assignment]
