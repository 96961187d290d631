"""``--start-from``: the weights that a training begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segbench.api import Dataset
from segbench.errors import UserError
from segbench.plugins.architecture import Architecture
from segbench.training.card import Learnt
from segbench.training.checkpoint import load_checkpoint


@dataclass(frozen=True, eq=False)
class Start:
    """The best weights of another training, the SHA-256 of their file, and what they learnt from.

    What a network knows of its images, such as their mean, is among its weights.
    """

    weights: Mapping[str, Tensor]
    sha256: str
    learnt: tuple[Learnt, ...]


def load_start(folder: Path, architecture: Architecture, dataset: Dataset) -> Start:
    """What a finished checkpoint has learnt.

    Raises:
        UserError: it is none, or of another architecture or other images.
    """
    module, card = load_checkpoint(folder)
    for fact, ours, theirs in (
        ("network", architecture.text, card.model),
        ("parameters", dict(architecture.parameters), card.parameters),
        ("input channels", dataset.in_channels, card.in_channels),
        ("classes", len(dataset.class_names), card.num_classes),
        ("spatial dimensions", dataset.spatial_dims, card.spatial_dims),
    ):
        if ours != theirs:
            raise UserError(
                f"--start-from {folder}: its {fact} are {theirs}, and those to be trained {ours}"
            )
    own = Learnt(
        dataset_fingerprint=card.dataset_fingerprint,
        cases=(*card.train_cases, *card.validation_cases),
        contents=tuple(card.contents.values()),
    )
    return Start(module.state_dict(), card.weights_sha256, (own, *card.inherited))
