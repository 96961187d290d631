"""``--start-from``: the weights that a training begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segbench.errors import UserError
from segbench.plugins.architecture import Architecture
from segbench.training.card import load_card
from segbench.training.checkpoint import load_checkpoint


@dataclass(frozen=True, eq=False)
class Start:
    """The best weights of another training, and the SHA-256 of their file."""

    weights: Mapping[str, Tensor]
    sha256: str


def load_start(folder: Path, architecture: Architecture) -> Start:
    """What a finished checkpoint has learnt.

    Raises:
        UserError: it is none, or of another architecture.
    """
    card = load_card(folder)
    if card.model != architecture.text:
        raise UserError(
            f"--start-from {folder} is a {card.model}, and {architecture.text} is to be trained"
        )
    module, card = load_checkpoint(folder)
    return Start(module.state_dict(), card.weights_sha256)
