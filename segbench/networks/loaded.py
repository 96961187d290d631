"""A network that has been found, and the same once it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from segbench.networks.normalize import Normalization
from segbench.networks.wishes import NO_WISHES, Wishes
from segbench.training.card import Card

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network and the facts that determine its answers (part of every cell's key).

    Attributes:
        facts: its source, its layers and what they are told, its hyper-parameters; no names.
        own: whether it is the user's own: how it wants its images and what it answers is found out
            when the images are there (``adapt.py``).
        normalization: what ``--normalize`` and ``--channels`` say of it.
        wishes: all that the user says of it.
        exact: whether its gradients must be fp32.
        shown: what ``inspect`` shows of it: tiles, window, classes, prompts.
        member_cards: of those of an ensemble's members that ``segbench train`` made.
        licence: what its files say that it is under; "" where they say nothing.
        said: what the user should know of it, in sentences.
        oracle: compares it with what others measured, in sentences; None where nobody did.
        measured: case id -> its class mean of Jaccard on the clean image, as others measured it.
        card: of one that ``segbench train`` made.
    """

    module: nn.Module
    weights_sha256: str
    facts: dict[str, Any]
    own: bool = False
    normalization: Normalization | None = None
    wishes: Wishes = NO_WISHES
    exact: bool = False
    card: Card | None = None
    member_cards: tuple[Card, ...] = ()
    licence: str = ""
    shown: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    oracle: Callable[[], Iterator[str]] | None = None
    measured: Mapping[str, float] = field(default_factory=dict)


class ModelReference(Protocol):
    """A network that has been found but not loaded."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def load(self, dataset: Dataset) -> LoadedModel:
        """Read the weights; UserError where they or the data set do not fit."""
        ...
