"""``--front``: a network behind a layer that is meant to wash attacks out of its images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from segbench.errors import UserError
from segbench.networks.adapt import keep_declarations
from segbench.networks.combined import CombinedReference, ready
from segbench.networks.front_layers import FRONTS
from segbench.networks.loaded import LoadedModel, ModelReference
from segbench.plugins.spec import Spec, bind, parse
from segbench.plugins.suggest import suggest

if TYPE_CHECKING:
    from segbench.api import Dataset


@dataclass(frozen=True)
class FrontedReference:
    """A network whose images pass a front first, such as ``jpeg:quality=75``.

    Attributes:
        shapes: see ``CombinedReference``.
    """

    member: ModelReference
    front: Spec
    alias: str = ""
    shapes: frozenset[tuple[int, ...]] = frozenset()

    @property
    def name(self) -> str:
        """For example ``unet@jsrt#0 (jpeg:quality=75)``."""
        return self.alias or f"{self.member.name} ({self.front})"

    def load(self, dataset: Dataset) -> LoadedModel:
        """The network as it is otherwise, behind its front.

        Raises:
            UserError: it cannot be read, or does not fit the data.
        """
        model = self.member.load(dataset)
        member = ready(self.member.name, model, dataset, self.shapes)
        model, module = member.model, member.network.module
        return replace(
            model,
            module=Fronted(_built(self.front), module),
            own=False,
            normalization=None,
            facts={**model.facts, "adapted": member.identity, "front": str(self.front)},
            shown={**model.shown, "front": str(self.front)},
            said=member.said,
            oracle=None,
            measured={},
            original=None,
        )


def asked_about(reference: ModelReference, shapes: frozenset[tuple[int, ...]]) -> ModelReference:
    """The same network, all within it made ready for images of these shapes (C, *spatial) alone."""
    if isinstance(reference, FrontedReference):
        return replace(reference, member=asked_about(reference.member, shapes), shapes=shapes)
    if isinstance(reference, CombinedReference):
        members = tuple(asked_about(member, shapes) for member in reference.members)
        return replace(reference, members=members, shapes=shapes)
    return reference


def read_front(text: str) -> Spec:
    """What ``--front`` means.

    Raises:
        UserError: there is no such front, or it has no such parameter.
    """
    spec = parse(text)
    if spec.name not in FRONTS:
        raise UserError(
            f"--front {text!r}: unknown front {spec.name!r}{suggest(spec.name, FRONTS)}"
        )
    _built(spec)
    return spec


def _built(spec: Spec) -> nn.Module:
    factory = FRONTS[spec.name]
    return factory(**bind(factory, spec)).eval()


class Fronted(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> the network's answer to what the front makes of them."""

    def __init__(self, front: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.front, self.network = front, network
        keep_declarations(network, self)

    def forward(self, images: Tensor) -> Tensor:
        """Front first."""
        answer: Tensor = self.network(self.front(images))
        return answer
