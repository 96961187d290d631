"""`smp/NAME:key=value`: any network of segmentation-models-pytorch, by its class name.

The data set's sizes are filled in; the simple parameters of the class's own signature are keys,
lists joined by + (`smp/Unet:encoder_name=resnet34`). Encoders start at random, since the library
would download their weights. Normalisation is segbench's own. `stride` is ours: images are padded
to multiples of it. Images only, no volumes. An extra: pip install 'segbench[smp]'.
"""

import inspect
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn

from segbench_models.extras import import_extra
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.library_network import LibraryNetwork
from segbench_models.library_signature import first_sentence, key, sign, spec_keys

_SIZES = ("in_channels", "classes")
_NOT_OURS = ("encoder_weights", "activation", "aux_params")  # downloads; answers beside logits
_STRIDE = 32
_NAME = re.compile(r"[\w.-]*")


def member(name: str) -> Callable[..., nn.Module]:
    """The factory of a class of segmentation-models-pytorch, its hyper-parameters as keywords.

    Raises ValueError for a name that the library does not have.
    """
    smp = import_extra(
        "segmentation_models_pytorch", package="segmentation-models-pytorch", extra="smp"
    )
    networks = _networks(smp)
    if name not in networks:
        raise ValueError(
            f"segmentation-models-pytorch has no network {name!r}, expected one of "
            f"{', '.join(networks)}"
        )
    return _factory(name, networks[name])


def _networks(smp: ModuleType) -> dict[str, type[nn.Module]]:
    base: type[nn.Module] = smp.base.SegmentationModel
    return {
        name: found
        for name, found in sorted(vars(smp).items())
        if inspect.isclass(found) and issubclass(found, base)
    }


def _factory(name: str, network: type[nn.Module]) -> Callable[..., nn.Module]:
    """A `build` whose signature lists the keys that a spec may set."""
    keys = spec_keys(network, leave_out=(*_SIZES, *_NOT_OURS), defaults={})
    keys["stride"] = key("stride", int, _STRIDE)

    def build(
        *, in_channels: int, num_classes: int, spatial_dims: int = 2, **values: Any
    ) -> nn.Module:
        check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        if spatial_dims != 2:
            raise ValueError(
                f"smp/{name} is for images, but the data has {spatial_dims} dimensions"
            )
        encoder = values.get("encoder_name", "")
        if not _NAME.fullmatch(encoder):  # timm would ask the hub, or read another folder
            raise ValueError(f"{encoder!r} is no encoder's name")
        stride = values.pop("stride", _STRIDE)
        check_at_least(1, stride=stride)
        sizes = {"in_channels": in_channels, "classes": num_classes}
        try:
            built = network(encoder_weights=None, **sizes, **values)
        except KeyError as error:  # its way to refuse an encoder's name
            raise ValueError(str(error.args[0])) from error
        return LibraryNetwork(
            built, in_channels=in_channels, spatial_dims=spatial_dims, stride=stride
        )

    sign(build, keys, f"{name} of segmentation-models-pytorch: {first_sentence(network)}")
    return build
