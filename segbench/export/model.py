"""A network leaves segbench: its weights as safetensors, and a card that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save
from torch import Tensor

from segbench import __version__
from segbench.errors import UserError
from segbench.export.folder import DESCRIPTION, WEIGHTS, as_json, write_files
from segbench.export.output import describe_output
from segbench.training.card import CARD_FILE, card_bytes
from segbench.training.state_dicts import tensors_of

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset
    from segbench.networks import LoadedModel
    from segbench.training.card import Card


def weights_of(name: str, module: nn.Module) -> dict[str, Tensor]:
    """The tensors of its state, as they are; before anything asks it, which makes it fp32.

    Raises:
        UserError: it has none, as a black box, or state that is no tensor.
    """
    tensors = {
        key: value.detach().cpu().contiguous().clone() for key, value in tensors_of(module).items()
    }
    if not tensors:
        raise UserError(f"{name} has no weights here that could be written")
    return tensors


def describe_model(name: str, text: str, model: LoadedModel, dataset: Dataset) -> dict[str, Any]:
    """What a card says of any network: where it is from, what it is, and what it expects."""
    return {
        "schema_version": 1,
        "model": name,
        "source": text,
        "weights_sha256": model.weights_sha256,
        "facts": model.facts,
        "licence": model.licence or "not said",
        "image": {
            "channels": dataset.in_channels,
            "spatial_dims": dataset.spatial_dims,
            "values": "0 to 1",
            "data": dataset.resize_rule,
            "normalization": _normalization(model),
        },
        "class_names": list(dataset.class_names),
        **describe_output(model, dataset),
        "members": [
            {
                "model": member,
                "weights_sha256": own.weights_sha256,
                "licence": own.licence or "not said",
                "normalization": _normalization(own),
            }
            for member, own in model.members
        ],
        "notes": list(model.said),
        "shown": dict(model.shown),
        "training": model.card and model.card.model_dump(mode="json"),
        "segbench": __version__,
    }


def export_weights(
    folder: Path,
    description: Mapping[str, Any],
    tensors: dict[str, Tensor],
    card: Card | None = None,
) -> list[Path]:
    """The tensors as ``model.safetensors``, their card, and of a checkpoint its training's.

    Raises:
        MachineError: the folder cannot be written.
    """
    written = {WEIGHTS: save(tensors), DESCRIPTION: as_json(description)}
    if card:
        written[CARD_FILE] = card_bytes(card)
    return write_files(folder, written)


def _normalization(model: LoadedModel) -> Any:
    """What ``--normalize`` and ``--channels`` say; of members that they are said by themselves."""
    if any(own.normalization for _, own in model.members):
        return "see members"
    return model.normalization and asdict(model.normalization)
