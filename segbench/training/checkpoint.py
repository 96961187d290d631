"""Checkpoints: a network's weights and its card, saved, checked and loaded.

See ``card.py`` for the layout of a folder and ``weights.py`` for a user's own weights files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from segbench.atomic import read_regular, read_whole, remove, shown, write_atomically
from segbench.errors import UserError
from segbench.plugins import registry, spec
from segbench.plugins.architecture import Architecture
from segbench.training.card import BEST_FILE, CARD_FILE, LAST_FILE, Card, card_bytes, load_card
from segbench.training.weight_files import parse_safetensors
from segbench.training.weights import fit_weights


def save_checkpoint(
    folder: Path, best: Mapping[str, Tensor], last: Mapping[str, Tensor], card: Card
) -> Card:
    """Write two state dicts and their card, whose ``weights_sha256`` is filled in here.

    An older card goes first and the new one comes last, so that a folder with a card is complete
    and consistent at every moment.

    Raises:
        MachineError: the folder cannot be written.
    """
    remove(folder / CARD_FILE)
    content = _serialize(best)
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    write_atomically(folder / BEST_FILE, content)
    write_atomically(folder / LAST_FILE, _serialize(last))
    write_atomically(folder / CARD_FILE, card_bytes(card))
    return card


def load_checkpoint(folder: Path) -> tuple[nn.Module, Card]:
    """The network of a checkpoint in evaluation mode, on the CPU, with its best weights.

    Raises:
        UserError: the folder is no finished checkpoint, its weights are not those its card
            describes, or its architecture is not installed here or has changed.
    """
    card = load_card(folder)
    path = folder / BEST_FILE
    content = read_whole(path, lambda: _content(folder, card))
    tensors = parse_safetensors(content, path)
    plugin = registry.load("models", spec.parse(card.model).name)
    architecture = Architecture(card.model, plugin, card.parameters).without_initial_weights()
    network = architecture.build(
        in_channels=card.in_channels,
        num_classes=card.num_classes,
        spatial_dims=card.spatial_dims,
    )
    fit_weights(network, tensors, path)
    return network.eval(), card


def _content(folder: Path, card: Card) -> bytes:
    """The file of best weights, which is the one that the card describes."""
    path = folder / BEST_FILE
    try:
        content = read_regular(path)  # once: what is hashed is what is loaded
    except OSError as error:
        raise UserError(
            f"checkpoint {shown(folder)} has no {BEST_FILE} that can be read "
            f"({error.strerror or error}); train again or restore the file"
        ) from None
    if (found := hashlib.sha256(content).hexdigest()) != card.weights_sha256:
        raise UserError(
            f"{shown(path)} is not the file its card describes (SHA-256 {found[:12]}…, expected "
            f"{card.weights_sha256[:12]}…): it is truncated or was replaced; train again or "
            "restore the file"
        )
    return content


def _serialize(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file; copies, since the format refuses shared and strided memory."""
    return save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
