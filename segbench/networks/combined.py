"""Several answers as one network: ``ensemble:a+b+c``, and ``--tta flips``.

The answer is the mean of probabilities, by its logarithm, so that it stays differentiable: the mean
over the members of an ensemble, each as it is, or over all flips of an image, each flipped back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from segbench.api import BringsPostprocess
from segbench.engine.answers import Answers
from segbench.engine.network import Network
from segbench.engine.precision import Precision
from segbench.errors import UserError, named
from segbench.networks.loaded import LoadedModel, ModelReference
from segbench.networks.stand_ins import adapt_model, case_of
from segbench.store.records import digest

if TYPE_CHECKING:
    from segbench.api import Dataset, Entry

_RULE = "mean of probabilities"


@dataclass(frozen=True)
class CombinedReference:
    """Networks whose answers are taken together, each perhaps under all flips of its image.

    Attributes:
        shapes: of the images (C, *spatial) that it will be asked about; none for all of the data's.
    """

    members: tuple[ModelReference, ...]
    flips: bool = False
    alias: str = ""
    shapes: frozenset[tuple[int, ...]] = frozenset()

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
            _logits_alone(member.name, ready(member.name, model, dataset, self.shapes))
            for member, model in zip(self.members, loaded, strict=True)
        ]
        module = _combined([member.network for member in members], self.flips)
        loaded = [member.model for member in members]
        described = [[own.model.facts, own.model.weights_sha256, own.identity] for own in members]
        facts: dict[str, Any] = {"members": described, "flips": self.flips, "rule": _RULE}
        alone = loaded[0] if len(loaded) == 1 else None
        return LoadedModel(
            module,
            alone.weights_sha256 if alone else digest({"members": described}),
            facts,
            exact=True,
            card=alone.card if alone else None,
            member_cards=tuple(model.card for model in loaded if model.card),
            members=tuple(zip((one.name for one in self.members), loaded, strict=True)),
            licence=_licences(self.members, loaded),
            learnt=frozenset().union(*(model.learnt for model in loaded)),
            shown={"combined": f"{_RULE} of {', '.join(m.name for m in self.members)}"
                   + (", over all flips" if self.flips else "")},
            said=tuple(sentence for member in members for sentence in member.said),
        )  # fmt: skip


def _licences(members: Sequence[ModelReference], loaded: Sequence[LoadedModel]) -> str:
    """That of all, or whose is which; "" where no file says any."""
    found = {model.licence for model in loaded}
    if len(found) == 1:
        return found.pop()
    said = [f"{one.name}: {model.licence or 'not said'}"
            for one, model in zip(members, loaded, strict=True)]  # fmt: skip
    return "; ".join(said)


@dataclass(frozen=True, eq=False)
class Ready:
    """A network within another as the engine sees it.

    Attributes:
        model: what it was loaded as.
        identity: what was put around it.
        said: all that the user should know of it.
    """

    network: Network
    model: LoadedModel
    identity: str
    said: tuple[str, ...]


def ready(
    name: str, model: LoadedModel, dataset: Dataset, shapes: Collection[tuple[int, ...]]
) -> Ready:
    """A network made ready to be asked within another.

    Args:
        shapes: see ``CombinedReference``.

    Raises:
        UserError: it does not fit the data, or its rows would be marked.
    """
    classes, identity, said = len(dataset.class_names), "", tuple[str, ...]()
    module = model.module
    if model.own:
        case = case_of(dataset, (entry.case_id for entry in _entries(dataset)))
        with named(f"model {name}"):
            model, found = adapt_model(model, shapes or shapes_of(dataset), classes, case)
        module, said = found.module, found.said
        identity = f"{found.identity} {model.normalization and asdict(model.normalization)}"
        if found.marks:
            raise UserError(f"model {name} is {', '.join(found.marks)}; attack it by itself first")
    precision = Precision("fp32", "of an ensemble")
    network = Network(name, module, classes, torch.device("cpu"), precision)
    return Ready(network, model, identity, (*model.said, *said))


def _logits_alone(name: str, member: Ready) -> Ready:
    """A member, unless its prediction is more than its logits."""
    if isinstance(member.network.module, BringsPostprocess):
        raise UserError(
            f"model {name} post-processes its labels, which a mean of probabilities has not; leave "
            "it out"
        )
    return member


def shapes_of(dataset: Dataset) -> set[tuple[int, ...]]:
    """Those of every image there is, (C, *spatial)."""
    return {entry.shape for entry in _entries(dataset)}


def _entries(dataset: Dataset) -> Iterator[Entry]:
    """Every case there is; arrays have cases to test on alone, and say so."""
    for split in dataset.splits:
        with suppress(UserError):
            yield from dataset.entries(split)


class Combined(nn.Module):
    """Images (B, C, *spatial) -> the logarithm of mean probabilities (B, K, *spatial).

    For overlapping structures, the logit of theirs (B, S, *spatial). Where a member gives no
    gradient there is none: that of the others would be another network's.
    """

    def __init__(self, networks: Sequence[Network], flips: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList([network.module for network in networks])
        self.flips = flips
        self.structures = networks[0].structures
        if self.structures:
            self.output = "sigmoid"
        lacking = [n.module.no_gradient for n in networks if hasattr(n.module, "no_gradient")]
        if lacking:
            self.no_gradient = lacking[0]
        # No networks, which cannot be copied, as gradient copies are.
        self._doors = [Answers(n.name, n.module, n.classes) for n in networks]

    def forward(self, images: Tensor) -> Tensor:
        """Every member, under every flip."""
        answers = []
        for axes in self._flips(images.dim()):
            flipped = images.flip(axes) if axes else images
            for member, door in zip(self.members, self._doors, strict=True):
                logits = door.canonical(member(flipped.clone()), flipped)
                of_images = [axis - images.dim() for axis in axes]  # structures are an axis more
                answers.append(logits.flip(of_images).log_softmax(1))
        mean = torch.stack(answers).logsumexp(0) - math.log(len(answers))
        if hasattr(self, "no_gradient"):
            mean = mean.detach()
        return mean[:, 1] - mean[:, 0] if self.structures else mean

    def _flips(self, dims: int) -> list[tuple[int, ...]]:
        axes = range(2, dims)
        if not self.flips:
            return [()]
        return [some for n in range(dims - 1) for some in itertools.combinations(axes, n)]


def _combined(networks: Sequence[Network], flips: bool) -> nn.Module:
    if flips and any(network.meets for network in networks):
        raise UserError("--tta flips is not for networks that meet their cases: prompts would stay")
    return Combined(networks, flips)
