"""A network that segbench trained as ``monai/NAME``, as a MONAI bundle."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from segbench import __version__
from segbench.errors import UserError
from segbench.export.folder import (
    BUNDLE_CONFIG,
    BUNDLE_METADATA,
    BUNDLE_WEIGHTS,
    DESCRIPTION,
    as_json,
    write_files,
)
from segbench.export.preprocessing import INSTEAD, first_case, transformed, write_steps
from segbench.plugins.spec import parse

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.training.card import Card

_FAMILY = "monai/"
_CLOSE = 1e-3  # of the largest logit, or of 1


@dataclass(frozen=True, eq=False)
class Bundled:
    """A network of ``monai.networks.nets`` within what segbench trains.

    Attributes:
        module: images (B, C, *spatial) in [0, 1] -> logits.
        network: MONAI's own, which takes what is normalised and padded.
        mean: of each channel, which is subtracted.
        std: of each channel, by which is divided.
        stride: the multiple that sides are padded to.
    """

    card: Card
    module: nn.Module
    network: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    stride: int


def require_bundled(card: Card | None, module: nn.Module) -> Bundled:
    """The parts of a network that a bundle can hold.

    Args:
        card: of a checkpoint; None for whatever else it is.
        module: it, loaded.

    Raises:
        UserError: it is not one of ``monai.networks.nets`` that segbench trained.
    """
    network = getattr(module, "network", None)
    if card is None or not card.model.startswith(_FAMILY) or not isinstance(network, nn.Module):
        raise UserError(
            "a MONAI bundle holds a class of monai.networks.nets, so it is made of networks that "
            f"were trained as monai/NAME; {INSTEAD}"
        )
    scale: Any = module.normalize
    mean, std = scale.mean.flatten().tolist(), scale.std.flatten().tolist()
    return Bundled(card, module.eval(), network, mean, std, int(module.stride))  # type: ignore[arg-type]


def export_bundle(
    folder: Path, description: Mapping[str, Any], model: Bundled, dataset: Dataset
) -> list[Path]:
    """A MONAI bundle, which makes of a case's files what the network was shown, and answers alike.

    Raises:
        UserError: MONAI's parts, as they would be written, do otherwise than segbench does.
        MachineError: the folder cannot be written.
    """
    weights = BytesIO()
    state = {key: value.detach().cpu().clone() for key, value in model.network.state_dict().items()}
    torch.save(state, weights)
    steps = write_steps(dataset, model.mean, model.std, model.stride)
    config: dict[str, Any] = {
        "network_def": _definition(model.card),
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(model.module)},
    }
    _compare_answers(config, model, dataset)
    return write_files(
        folder,
        {
            BUNDLE_WEIGHTS: weights.getvalue(),
            DESCRIPTION: as_json(description),  # by which an export that was stopped goes on
            BUNDLE_CONFIG: as_json(config),
            BUNDLE_METADATA: as_json(_metadata(description, model.card, dataset)),
        },
    )


def _compare_answers(config: Mapping[str, Any], model: Bundled, dataset: Dataset) -> None:
    """UserError where MONAI's network answers otherwise, asked about the first case as written."""
    from monai.bundle import ConfigParser

    case = first_case(dataset)
    images = torch.as_tensor(transformed(config["preprocessing"]["transforms"], dataset, case))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's, of its own defaults
        theirs = ConfigParser(dict(config)).get_parsed_content("network_def").eval()
    theirs.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        expected, found = model.module(torch.from_numpy(case.image)[None]), theirs(images[None])
    name = config["network_def"]["_target_"]
    if not isinstance(found, Tensor) or found.dim() != expected.dim():
        raise UserError(
            f"MONAI's {name} answers with several tensors, where a bundle's postprocessing takes "
            f"one; {INSTEAD}"
        )
    for axis, side in enumerate(expected.shape[2:], 2):
        found = found.narrow(axis, 0, min(side, found.shape[axis]))
    room = _CLOSE * max(1.0, float(expected.abs().max()))
    if found.shape != expected.shape or float((found - expected).abs().max()) > room:
        raise UserError(
            f"MONAI's {name} answers otherwise than it does here, where images are padded and "
            f"answers enlarged around it; {INSTEAD}"
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


def _postprocessing(module: nn.Module) -> list[dict[str, Any]]:
    sigmoid = getattr(module, "output", "softmax") == "sigmoid"
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
