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


AGREES = 0.002
"""Clean Dice no further apart than this is what others measured, but for rounding."""


@dataclass(frozen=True)
class Compared:
    """A case scored beside what others measured: in words, and how far apart in Dice."""

    text: str
    apart: float


@dataclass(frozen=True, eq=False)
class Original:
    """What a network stands in for, and has to answer as; see ``stand_ins.py``.

    Attributes:
        module: it, asked about the same images.
        by: what made the one of the other.
        instead: why the stand-in does not serve -> the network to take in its place.
    """

    module: nn.Module
    by: str
    instead: Callable[[str], LoadedModel]


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
        members: of an ensemble, or of one under flips, the name of each part and the part.
        learnt: of another library's, the names of the cases that it was trained on, as far as its
            files say.
        licence: what its files say that it is under; "" where they say nothing.
        said: what the user should know of it, in sentences.
        oracle: scores the cases that others measured it on, beside what they found; None where
            nobody did.
        measured: case id -> its class mean of Jaccard on the clean image, as others measured it.
        card: of one that ``segbench train`` made.
        original: of one that stands in for another; see ``stand_ins.py``.
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
    members: tuple[tuple[str, LoadedModel], ...] = ()
    learnt: frozenset[str] = frozenset()
    licence: str = ""
    shown: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    oracle: Callable[[], Iterator[Compared]] | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    original: Original | None = None


class ModelReference(Protocol):
    """A network that has been found but not loaded."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def load(self, dataset: Dataset) -> LoadedModel:
        """Read the weights; UserError where they or the data set do not fit."""
        ...
