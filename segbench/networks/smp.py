"""``smp:DIR``: a network that segmentation-models-pytorch saved by ``save_pretrained``."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from segbench.atomic import read_regular
from segbench.errors import UserError
from segbench.networks.hashes import source_hash
from segbench.networks.libraries import import_library
from segbench.networks.loaded import LoadedModel
from segbench.networks.own import own_model
from segbench.training.weights import load_weights

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.networks.wishes import Wishes

_SCALE = "its folder says no scale, so images are taken in 0 to 1; see --normalize imagenet"
_NAME = re.compile(r"[\w.-]*")


def load(path: Path, options: Mapping[str, str], dataset: Dataset, wishes: Wishes) -> LoadedModel:
    """The network of a folder, its encoder's weights from the folder and nowhere else.

    Raises:
        UserError: it cannot be read or rebuilt.
    """
    try:
        config = json.loads(read_regular(path / "config.json"))
        name = str(config.pop("_model_class"))
    except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path / 'config.json'} is no configuration of segmentation-models-pytorch "
            f"({type(error).__name__}); expected what save_pretrained writes"
        ) from None
    network = _build(name, config, path)
    load_weights(network, path / "model.safetensors")
    said = () if wishes.normalize else (_SCALE,)
    model = own_model(network, source_hash(network), dataset, wishes)
    encoder = str(config.get("encoder_name", "the default"))
    return replace(model, shown={"class": f"{name}, encoder {encoder}"}, said=said)


def _build(name: str, config: dict[str, Any], path: Path) -> nn.Module:
    smp = import_library("segmentation_models_pytorch", "smp")
    kind = getattr(smp, name, None)
    base = smp.base.SegmentationModel
    if not (inspect.isclass(kind) and issubclass(kind, base) and kind is not base):
        raise UserError(f"{path / 'config.json'} names {name}, which is no network of smp's")
    taken = inspect.signature(kind).parameters
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    _check_encoder(arguments, set(taken), path)
    try:
        built: Any = kind(**arguments | {"encoder_weights": None})
    except Exception as error:  # what is wrong in it may fail anywhere
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path / 'config.json'} describes no {name}: {reason:.200}") from error
    return built  # type: ignore[no-any-return]


def _check_encoder(arguments: Mapping[str, Any], taken: set[str], path: Path) -> None:
    """Refuse what would have timm read a file, or ask the hub, instead of building an encoder."""
    encoder = arguments.get("encoder_name", "")
    if not (isinstance(encoder, str) and _NAME.fullmatch(encoder)):
        raise UserError(f"{path / 'config.json'} names the encoder {encoder!r:.80}, which is none")
    for key in arguments.keys() - taken:
        for value in _listed(arguments[key]):
            if not (value is None or isinstance(value, (bool, int, float))):
                raise UserError(
                    f"{path / 'config.json'} gives its encoder {key} = {value!r:.80}; only numbers "
                    "and truth values are passed on to it"
                )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
