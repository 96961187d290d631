"""`monai/NAME:key=value`: any segmentation network of `monai.networks.nets`, by its class name.

The data set's sizes are filled in; every other number, truth value, text or list of whole numbers
of the class's own signature is a key, lists joined by + (`monai/UNet:channels=16+32,strides=2`).
Keys that MONAI leaves without a default have one here. `stride` is ours: images are padded to
multiples of it.
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.library_network import LibraryNetwork
from segbench_models.library_signature import first_sentence, key, sign, spec_keys

_OUT = ("out_channels", "num_classes")
_SIZES = ("in_channels", "spatial_dims", *_OUT)
_NOT_OURS = ("pretrained", "progress", "visual_output", "save_attn")  # downloads and by-products
_STRIDE = 32
_DOUBLINGS = (16, 32, 64, 128, 256)

# What MONAI leaves open, and where its logits lie among several answers.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "AttentionUnet": {"channels": _DOUBLINGS, "strides": (2, 2, 2, 2)},
    "DynUNet": {
        "kernel_size": (3, 3, 3, 3, 3),
        "strides": (1, 2, 2, 2, 2),
        "upsample_kernel_size": (2, 2, 2, 2),
    },
    "FlexibleUNet": {"backbone": "efficientnet-b0"},
    "UNETR": {"img_size": 256},
    "UNet": {"channels": _DOUBLINGS, "strides": (2, 2, 2, 2)},
}
_MAIN = {"BasicUNetPlusPlus": -1}
_NOT_SEGMENTATION = {
    "AutoEncoder": "it reconstructs images",
    "AutoencoderKL": "it reconstructs images",
    "DenseNet": "it classifies images",
    "DiffusionModelUNet": "it denoises images at a given time step",
    "SegResNetVAE": "it also returns its reconstruction loss",
    "VQVAE": "it reconstructs images",
    "ViTAutoEnc": "it reconstructs images",
}


def member(name: str) -> Callable[..., nn.Module]:
    """The factory of a class of `monai.networks.nets`, with its hyper-parameters as keywords.

    Raises ValueError for a name that MONAI does not have, or that is no segmentation network.
    """
    from monai.networks import nets

    network = getattr(nets, name, None)
    if not (inspect.isclass(network) and issubclass(network, nn.Module)):
        raise ValueError(f"monai.networks.nets has no network {name!r}, expected {_examples()}")
    signature = inspect.signature(network).parameters
    reason = _NOT_SEGMENTATION.get(network.__name__)
    if reason or "in_channels" not in signature or not any(out in signature for out in _OUT):
        reason = reason or "it takes no in_channels and out_channels"
        raise ValueError(f"{name} is no segmentation network: {reason}; expected {_examples()}")
    return _factory(name, network)


def _factory(name: str, network: type[nn.Module]) -> Callable[..., nn.Module]:
    """A `build` whose signature lists the keys that a spec may set."""
    ours = _DEFAULTS.get(network.__name__, {})
    keys = spec_keys(network, leave_out=(*_SIZES, *_NOT_OURS), defaults=ours)
    if "img_size" in keys:
        keys["img_size"] = keys["img_size"].replace(annotation=int)
    keys["stride"] = key("stride", int, _STRIDE)

    def build(
        *, in_channels: int, num_classes: int, spatial_dims: int = 2, **values: Any
    ) -> nn.Module:
        check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        stride = values.pop("stride", _STRIDE)
        check_at_least(1, stride=stride)
        missing = [k for k, p in keys.items() if p.default is p.empty and k not in values]
        if missing:
            raise ValueError(f"{name} needs {', '.join(missing)}")
        sizes = {"in_channels": in_channels, "spatial_dims": spatial_dims}
        sizes |= dict.fromkeys(_OUT, num_classes)
        taken = inspect.signature(network).parameters
        if "spatial_dims" not in taken and spatial_dims != 3:
            raise ValueError(f"{name} is for volumes, but the data has {spatial_dims} dimensions")
        # MONAI warns of some parameters even where they have its own default.
        changed = {k: value for k, value in values.items() if value != taken[k].default}
        return LibraryNetwork(
            network(**{k: v for k, v in sizes.items() if k in taken}, **changed),
            in_channels=in_channels,
            spatial_dims=spatial_dims,
            stride=stride,
            fixed_size=values.get("img_size"),
            main=_MAIN.get(network.__name__, 0),
        )

    sign(build, keys, f"MONAI's {name}: {first_sentence(network)}")
    return build


def _examples() -> str:
    return "one such as UNet, SegResNet, SwinUNETR, VNet"
