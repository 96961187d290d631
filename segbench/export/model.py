"""A network leaves segbench: its weights as safetensors with a card, or as a MONAI bundle."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import nn

from segbench import __version__
from segbench.atomic import write_atomically
from segbench.errors import UserError
from segbench.plugins.spec import parse
from segbench.training.card import CARD_FILE, card_bytes

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.networks import LoadedModel
    from segbench.training.card import Card

WEIGHTS = "model.safetensors"
DESCRIPTION = "model_card.json"
_FAMILY = "monai/"


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
            "normalization": model.normalization and asdict(model.normalization),
        },
        "class_names": list(dataset.class_names),
        "output": getattr(model.module, "output", "softmax"),
        "notes": list(model.said),
        "shown": dict(model.shown),
        "training": model.card and model.card.model_dump(mode="json"),
        "segbench": __version__,
    }


def export_weights(folder: Path, description: Mapping[str, Any], model: LoadedModel) -> list[Path]:
    """The state dict as ``model.safetensors``, its card, and for one of ours its training's card.

    Raises:
        UserError: it has none, as a black box.
        MachineError: the folder cannot be written.
    """
    tensors = {
        k: v.detach().cpu().contiguous().clone() for k, v in model.module.state_dict().items()
    }
    if not tensors:
        raise UserError(f"{description['model']} has no weights here that could be written")
    written = [(WEIGHTS, save(tensors)), (DESCRIPTION, _json(description))]
    if model.card:
        written.append((CARD_FILE, card_bytes(model.card)))
    return _write(folder, written)


def export_bundle(
    folder: Path, description: Mapping[str, Any], model: LoadedModel, dataset: Dataset
) -> list[Path]:
    """A MONAI bundle, its images scaled as the data set scales them.

    Raises:
        UserError: the network is not one of ``monai.networks.nets`` that segbench trained.
        MachineError: the folder cannot be written.
    """
    card = model.card
    if card is None or not card.model.startswith(_FAMILY):
        raise UserError(
            "a MONAI bundle holds a class of monai.networks.nets, so it is made of networks that "
            "were trained as monai/NAME; leave --format out for safetensors and a card"
        )
    network, stride = model.module.network, int(model.module.stride)  # type: ignore[arg-type]
    assert isinstance(network, nn.Module)
    weights = BytesIO()
    torch.save({k: v.detach().cpu().clone() for k, v in network.state_dict().items()}, weights)
    steps = _preprocessing(model, card, dataset, stride)
    config = {
        "network_def": _definition(card),
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(model)},
    }
    return _write(
        folder,
        [
            ("models/model.pt", weights.getvalue()),
            ("configs/inference.json", _json(config)),
            ("configs/metadata.json", _json(_metadata(description, card, dataset))),
            (DESCRIPTION, _json(description)),
        ],
    )


def _definition(card: Card) -> dict[str, Any]:
    """``network_def``: the class and what it was built with."""
    from monai.networks import nets

    name = parse(card.model).name.removeprefix(_FAMILY)
    taken = inspect.signature(getattr(nets, name)).parameters
    sizes = {
        "in_channels": card.in_channels,
        "spatial_dims": card.spatial_dims,
        "out_channels": card.num_classes,
        "num_classes": card.num_classes,
    }
    given = {**sizes, **card.parameters}
    return {"_target_": name, **{key: value for key, value in given.items() if key in taken}}


def _preprocessing(
    model: LoadedModel, card: Card, dataset: Dataset, stride: int
) -> list[dict[str, Any]]:
    scale = model.module.normalize
    mean, std = (getattr(scale, which).flatten().tolist() for which in ("mean", "std"))
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
    ]
    if card.spatial_dims == 3:
        steps.append({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"})
    else:  # MONAI reads pictures by column first
        steps.append({"_target_": "Transposed", "keys": "image", "indices": [0, 2, 1]})
    steps += _to_unit(dataset)
    steps += [
        {"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": mean, "divisor": std,
         "channel_wise": True},
        {"_target_": "DivisiblePadd", "keys": "image", "k": stride, "mode": "edge",
         "method": "end"},
    ]  # fmt: skip
    return steps


def _to_unit(dataset: Dataset) -> list[dict[str, Any]]:
    """From a file's values to [0, 1], as the data set goes."""
    entry = next(entry for split in dataset.splits for entry in dataset.entries(split))
    maps = dataset.load(entry.case_id).intensity
    if maps is None:
        return []
    ends = {"b_min": 0.0, "b_max": 1.0, "clip": True}
    if dataset.spatial_dims == 3 and not getattr(dataset, "window", ""):
        lower, upper = getattr(dataset, "lower", 0.5), getattr(dataset, "upper", 99.5)
        percentiles = {"lower": lower, "upper": upper, "channel_wise": True, **ends}
        target = "ScaleIntensityRangePercentilesd"
        return [{"_target_": target, "keys": "image", **percentiles}]
    values = {"a_min": maps[0].low, "a_max": maps[0].high, **ends}
    return [{"_target_": "ScaleIntensityRanged", "keys": "image", **values}]


def _postprocessing(model: LoadedModel) -> list[dict[str, Any]]:
    sigmoid = getattr(model.module, "output", "softmax") == "sigmoid"
    activation = {"sigmoid": True} if sigmoid else {"softmax": True}
    discrete: dict[str, Any] = {"threshold": 0.5} if sigmoid else {"argmax": True}
    return [
        {"_target_": "Activationsd", "keys": "pred", **activation},
        {"_target_": "AsDiscreted", "keys": "pred", **discrete},
    ]


def _metadata(description: Mapping[str, Any], card: Card, dataset: Dataset) -> dict[str, Any]:
    import monai
    import numpy

    channels = {str(n): name for n, name in enumerate(card.class_names)}
    return {
        "version": "0.1.0",
        "name": str(description["model"]),
        "description": f"Trained by segbench {__version__} on {card.dataset_spec}.",
        "monai_version": monai.__version__,
        "pytorch_version": str(torch.__version__).partition("+")[0],
        "numpy_version": numpy.__version__,
        "task": "segmentation",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": dataset.resize_rule,
                    "num_channels": card.in_channels,
                    "spatial_shape": ["*"] * card.spatial_dims,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(n): "image" for n in range(card.in_channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": card.num_classes,
                    "spatial_shape": ["*"] * card.spatial_dims,
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": channels,
                }
            },
        },
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, default=str) + "\n").encode()


def _write(folder: Path, files: list[tuple[str, bytes]]) -> list[Path]:
    written = []
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        written.append(path)
    return written
