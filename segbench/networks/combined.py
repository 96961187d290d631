"""Several answers as one network: ``ensemble:a+b+c``, and ``--tta flips``.

The answer is the mean of probabilities, by its logarithm, so that it stays differentiable: the mean
over the members of an ensemble, each as it is, or over all flips of an image, each flipped back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from segbench.api import BringsPostprocess, MeetsCases
from segbench.engine.network import Network
from segbench.engine.precision import Precision
from segbench.errors import UserError, named
from segbench.networks.adapt import adapt_network
from segbench.networks.loaded import LoadedModel, ModelReference
from segbench.store.records import digest

if TYPE_CHECKING:
    from segbench.api import Case, Dataset

_RULE = "mean of probabilities"


@dataclass(frozen=True)
class CombinedReference:
    """Networks whose answers are taken together, each perhaps under all flips of its image."""

    members: tuple[ModelReference, ...]
    flips: bool = False
    alias: str = ""

    @property
    def name(self) -> str:
        """For example ``ensemble:unet@jsrt#0+nlcen@jsrt#0`` or ``unet@jsrt#0 (flips)``."""
        names = "+".join(member.name for member in self.members)
        whole = f"ensemble:{names}" if len(self.members) > 1 else names
        return self.alias or (f"{whole} (flips)" if self.flips else whole)

    def load(self, dataset: Dataset) -> LoadedModel:
        """Every member, ready to be asked.

        Raises:
            UserError: one cannot be read, does not fit the data, or is more than its logits.
        """
        loaded = [member.load(dataset) for member in self.members]
        members = [
            _logits_alone(member.name, *ready(member.name, model, dataset))
            for member, model in zip(self.members, loaded, strict=True)
        ]
        module = _combined([network for network, _, _ in members], self.flips)
        described = [
            [model.facts, model.weights_sha256, adapted]
            for model, (_, adapted, _) in zip(loaded, members, strict=True)
        ]
        facts: dict[str, Any] = {"members": described, "flips": self.flips, "rule": _RULE}
        alone = loaded[0] if len(loaded) == 1 else None
        return LoadedModel(
            module,
            alone.weights_sha256 if alone else digest({"members": described}),
            facts,
            exact=True,
            card=alone.card if alone else None,
            member_cards=tuple(model.card for model in loaded if model.card),
            learnt=frozenset().union(*(model.learnt for model in loaded)),
            shown={"combined": f"{_RULE} of {', '.join(m.name for m in self.members)}"
                   + (", over all flips" if self.flips else "")},
            said=tuple(sentence for model, (_, _, said) in zip(loaded, members, strict=True)
                       for sentence in (*model.said, *said)),
        )  # fmt: skip


def ready(name: str, model: LoadedModel, dataset: Dataset) -> tuple[Network, str, tuple[str, ...]]:
    """A network within another as the engine sees it, what was put around it, and what to say.

    Raises:
        UserError: it does not fit the data, or its rows would be marked.
    """
    classes, module = len(dataset.class_names), model.module
    identity, said = "", tuple[str, ...]()
    if model.own:
        with named(f"model {name}"):
            found = adapt_network(
                module, _shapes(dataset), model.normalization, classes=classes, wishes=model.wishes
            )
        module, said = found.module, found.said
        identity = f"{found.identity} {model.normalization and asdict(model.normalization)}"
        if found.marks:
            raise UserError(f"model {name} is {', '.join(found.marks)}; attack it by itself first")
    precision = Precision("fp32", "of an ensemble")
    return Network(name, module, classes, torch.device("cpu"), precision), identity, said


def _logits_alone(
    name: str, network: Network, identity: str, said: tuple[str, ...]
) -> tuple[Network, str, tuple[str, ...]]:
    """A member, unless its prediction is more than its logits."""
    if isinstance(network.module, BringsPostprocess):
        raise UserError(
            f"model {name} post-processes its labels, which a mean of probabilities has not; leave "
            "it out"
        )
    return network, identity, said


def _shapes(dataset: Dataset) -> set[tuple[int, ...]]:
    """Of every image there is; arrays have cases to test on alone, and say so."""
    found: set[tuple[int, ...]] = set()
    for split in dataset.splits:
        with suppress(UserError):
            found |= {entry.shape for entry in dataset.entries(split)}
    return found


class Combined(nn.Module):
    """Images (B, C, *spatial) -> the logarithm of mean probabilities (B, K, *spatial).

    For overlapping structures, the logit of theirs (B, S, *spatial).
    """

    def __init__(self, networks: Sequence[Network], flips: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList([network.module for network in networks])
        self.flips = flips
        self.structures = networks[0].structures
        if self.structures:
            self.output = "sigmoid"
        self._doors: list[Callable[[Any, Tensor], Tensor]] = [n.canonical for n in networks]

    def forward(self, images: Tensor) -> Tensor:
        """Every member, under every flip."""
        answers = []
        for axes in self._flips(images.dim()):
            flipped = images.flip(axes) if axes else images
            for member, door in zip(self.members, self._doors, strict=True):
                logits = door(member(flipped.clone()), flipped)
                of_images = [axis - images.dim() for axis in axes]  # structures are an axis more
                answers.append(logits.flip(of_images).log_softmax(1))
        mean = torch.stack(answers).logsumexp(0) - math.log(len(answers))
        return mean[:, 1] - mean[:, 0] if self.structures else mean

    def _flips(self, dims: int) -> list[tuple[int, ...]]:
        axes = range(2, dims)
        if not self.flips:
            return [()]
        return [some for n in range(dims - 1) for some in itertools.combinations(axes, n)]


class MeetingCombined(Combined):
    """The same of members of which one must meet its cases."""

    def meet(self, case: Case) -> None:
        """Tell every member that asks."""
        for member in self.members:
            if isinstance(member, MeetsCases):
                member.meet(case)


def _combined(networks: Sequence[Network], flips: bool) -> nn.Module:
    meets = any(isinstance(network.module, MeetsCases) for network in networks)
    if flips and meets:
        raise UserError("--tta flips is not for networks that meet their cases: prompts would stay")
    return (MeetingCombined if meets else Combined)(networks, flips)
