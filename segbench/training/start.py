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
from segbench.training.defence import load_defence


@dataclass(frozen=True, eq=False)
class Start:
    """The best weights of another training, the SHA-256 of their file, and what they learnt from.

    What a network knows of its images, such as their mean, is among its weights.

    Attributes:
        dataset: the spec of what that training was on; ``learnt`` begins with its fingerprint.
        gradients: that they took, with those of whatever they began with; None if not known.
    """

    weights: Mapping[str, Tensor]
    sha256: str
    learnt: tuple[Learnt, ...]
    dataset: str
    gradients: int | None


def find_start(
    folder: Path | None, defence: str, architecture: Architecture, dataset: Dataset
) -> Start | None:
    """Where a training begins; None for the weights of its seed.

    Raises:
        UserError: the checkpoint does not fit, or the defence needs one and there is none.
    """
    if folder is not None:
        return load_start(folder, architecture, dataset)
    if defence and getattr(load_defence(defence), "needs_start", False):
        raise UserError(f"{defence} begins from another checkpoint; give --start-from FOLDER")
    return None


def load_start(folder: Path, architecture: Architecture, dataset: Dataset) -> Start:
    """What a finished checkpoint has learnt.

    Raises:
        UserError: it is none, or of another architecture or other images.
    """
    module, card = load_checkpoint(folder)
    for fact, ours, theirs in (
        ("its network is", architecture.text, card.model),
        ("its parameters are", dict(architecture.parameters), card.parameters),
        ("its input channels are", dataset.in_channels, card.in_channels),
        ("its classes are", len(dataset.class_names), card.num_classes),
        ("its spatial dimensions are", dataset.spatial_dims, card.spatial_dims),
    ):
        if ours != theirs:
            raise UserError(
                f"--start-from {folder}: {fact} {theirs}; of what is to be trained {ours}"
            )
    own = Learnt(
        dataset_fingerprint=card.dataset_fingerprint,
        cases=(*card.train_cases, *card.validation_cases),
        contents=tuple(card.contents.values()),
    )
    learnt = (own, *card.inherited)
    return Start(
        module.state_dict(), card.weights_sha256, learnt, card.dataset_spec, card.all_gradients
    )
