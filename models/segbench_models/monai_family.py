"""`monai/NAME:key=value`: any segmentation network of `monai.networks.nets`, by its class name.

The data set's sizes are filled in; every other number, truth value, text or list of whole numbers
of the class's own signature is a key, lists joined by + (`monai/UNet:channels=16+32,strides=2`).
Keys that MONAI leaves without a default have one here. `stride` is ours: images are padded to
multiples of it.
"""

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin

from monai.networks import nets
from torch import nn

from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.monai_network import MonaiNetwork

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
    keys = _keys(network)

    def build(
        *, in_channels: int, num_classes: int, spatial_dims: int = 2, **values: Any
    ) -> nn.Module:
        check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        stride = values.pop("stride", _STRIDE)
        check_at_least(1, stride=stride)
        missing = [key for key, p in keys.items() if p.default is p.empty and key not in values]
        if missing:
            raise ValueError(f"{name} needs {', '.join(missing)}")
        sizes = {"in_channels": in_channels, "spatial_dims": spatial_dims}
        sizes |= dict.fromkeys(_OUT, num_classes)
        taken = inspect.signature(network).parameters
        if "spatial_dims" not in taken and spatial_dims != 3:
            raise ValueError(f"{name} is for volumes, but the data has {spatial_dims} dimensions")
        # MONAI warns of some parameters even where they have its own default.
        changed = {key: value for key, value in values.items() if value != taken[key].default}
        built = network(**{k: v for k, v in sizes.items() if k in taken}, **changed)
        return MonaiNetwork(
            built,
            in_channels=in_channels,
            spatial_dims=spatial_dims,
            stride=stride,
            fixed_size=values.get("img_size"),
            main=_MAIN.get(network.__name__, 0),
        )

    kind = inspect.Parameter.KEYWORD_ONLY
    sizes = {
        "in_channels": inspect.Parameter("in_channels", kind, annotation=int),
        "num_classes": inspect.Parameter("num_classes", kind, annotation=int),
        "spatial_dims": inspect.Parameter("spatial_dims", kind, annotation=int, default=2),
    }
    stride = {"stride": inspect.Parameter("stride", kind, annotation=int, default=_STRIDE)}
    signature = inspect.Signature(list((sizes | keys | stride).values()))
    build.__signature__ = signature  # type: ignore[attr-defined]
    build.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    build.__doc__ = f"MONAI's {name}: {_first_sentence(network)}"
    return build


def _keys(network: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The parameters of a class that spec text can express, with MONAI's or our defaults."""
    hints = typing.get_type_hints(network.__init__)
    ours = _DEFAULTS.get(network.__name__, {})
    keys = {}
    for name, parameter in inspect.signature(network).parameters.items():
        if name in _SIZES or name in _NOT_OURS or parameter.kind is parameter.VAR_KEYWORD:
            continue
        default = ours.get(name, parameter.default)
        annotation = _expressible(hints.get(name, type(default)))
        simple = default is parameter.empty or _is_simple(default)
        if name == "img_size":
            annotation = int
        if annotation is not None and simple:
            kind = inspect.Parameter.KEYWORD_ONLY
            keys[name] = inspect.Parameter(name, kind, default=default, annotation=annotation)
    return keys


def _expressible(hint: Any) -> Any:
    """The part of a type that spec text can express; None if there is none."""
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [part for option in get_args(hint) if (part := _expressible(option)) is not None]
        return typing.Union[tuple(dict.fromkeys(parts))] if parts else None  # noqa: UP007
    if hint in (int, float, bool, str, type(None)):
        return hint
    if hint in (tuple, list) or origin in (tuple, list, Sequence):
        inner = get_args(hint)
        whole = not inner or all(_holds_whole_numbers(part) for part in inner if part is not ...)
        return tuple[int, ...] if whole else None
    return None


def _holds_whole_numbers(hint: Any) -> bool:
    options = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return int in options


def _is_simple(value: Any) -> bool:
    """Whether a default survives a card: JSON without mappings."""
    if isinstance(value, (tuple, list)):
        return all(isinstance(item, int) for item in value)
    return value is None or type(value) in (int, float, bool, str)


def _first_sentence(network: type[nn.Module]) -> str:
    lines = (inspect.getdoc(network) or "").strip().partition("\n\n")[0]
    return " ".join(lines.split())


def _examples() -> str:
    return "one such as UNet, SegResNet, SwinUNETR, VNet"
