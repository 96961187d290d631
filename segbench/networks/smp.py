"""``smp:DIR``: a network that segmentation-models-pytorch saved by ``save_pretrained``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from segbench.atomic import read_regular
from segbench.errors import UserError
from segbench.networks.hashes import source_hash
from segbench.networks.loaded import LoadedModel
from segbench.networks.own import own_model
from segbench.training.weights import load_weights

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.networks.wishes import Wishes


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
    said = () if wishes.normalize else ("its images are taken in 0 to 1; see --normalize imagenet",)
    model = own_model(network, source_hash(network), dataset, wishes)
    encoder = str(config.get("encoder_name", "the default"))
    return replace(model, shown={"class": f"{name}, encoder {encoder}"}, said=said)


def _build(name: str, config: dict[str, Any], path: Path) -> nn.Module:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise UserError(
            f"smp: needs segmentation-models-pytorch ({error}); install segbench[smp]"
        ) from None
    kind = getattr(smp, name, None)
    base = smp.base.SegmentationModel
    if not (inspect.isclass(kind) and issubclass(kind, base) and kind is not base):
        raise UserError(f"{path / 'config.json'} names {name}, which is no network of smp's")
    taken = inspect.signature(kind).parameters
    arguments = {key: value for key, value in config.items() if key in taken}
    try:
        built: Any = kind(**arguments | {"encoder_weights": None})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path / 'config.json'} describes no {name}: {error}") from error
    return built  # type: ignore[no-any-return]
