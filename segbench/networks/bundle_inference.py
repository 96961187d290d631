"""What a bundle's inference does to images and answers, by its config; else refused by key."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from segbench.errors import UserError
from segbench.networks.bundle_config import Config
from segbench.networks.bundle_network import INTENSITY, PAD_MODES, Ending, Geometry, Padding

_HARMLESS = frozenset(
    {
        "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor",
        "CastToType", "ToDevice", "DeleteItems", "Invert", "SaveImage", "CopyItems",
    }
)  # fmt: skip


_WINDOW = ("roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval")


_NOT_OURS = ("keys", "allow_missing_keys", "dtype")


def _transforms(config: Config, key: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(key, name without its ``d``, arguments) of each transform of images or predictions."""
    if not config.has(key):
        return []
    whole = config.at(key, key)
    while isinstance(whole, str) and whole[:1] in "@%":
        whole = config.at(whole[1:], key)
    listed = whole.get("transforms", []) if isinstance(whole, dict) else whole
    while isinstance(listed, str) and listed[:1] in "@%":
        listed = config.at(listed[1:], key)
    if not isinstance(listed, list):
        raise UserError(f"{config.file}: {key} is no list of transforms")
    found = []
    for number, item in enumerate(listed):
        where = f"{key}::transforms::{number}"
        name = _name_of(item)
        if name in _HARMLESS:  # whatever its arguments are, they are not needed
            continue
        part = config.part(item, where)
        if part is not None:
            found.append((where, name, part[1]))
    return found


def _name_of(item: Any) -> str:
    target = item.get("_target_", "") if isinstance(item, dict) else ""
    name = str(target).rpartition(".")[2]
    for ending in ("Dict", "D", "d"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def read_preprocessing(
    config: Config, skip: frozenset[str], dims: int
) -> tuple[Geometry, list[tuple[str, dict[str, Any]]]]:
    """The grid that images are brought to, and what is done to their numbers, in order.

    Raises:
        UserError: there is a transform, not in ``skip``, that is not done here.
    """
    axcodes, transposed = "", True
    pad: Padding | None = None
    pixdim: tuple[float, ...] = ()
    intensity: list[tuple[str, dict[str, Any]]] = []
    for where, name, arguments in _transforms(config, "preprocessing"):
        keys = arguments.get("keys", "image")
        if "image" not in (keys if isinstance(keys, list) else [keys]) or f"{name}d" in skip:
            continue
        own = {key: value for key, value in arguments.items() if key not in _NOT_OURS}
        if name == "Orientation":
            axcodes = str(own.get("axcodes", "RAS"))
        elif name == "Spacing":
            pixdim = tuple(map(float, _listed(own.get("pixdim", []))))
        elif name == "Transpose" and own.get("indices") == [0, 2, 1] and dims == 2:
            transposed = not transposed
        elif name == "DivisiblePad":
            pad = _padding(config, where, own)
        elif pad is not None:
            raise UserError(f"{config.file}: {where} is {name}d, after DivisiblePadd")
        elif name in INTENSITY:
            _require_arguments(config, where, INTENSITY[name], own)
            intensity.append((name, own))
        else:
            raise UserError(
                f"{config.file}: {where} is {name}d, which segbench does not do; "
                f"monai-bundle:...,skip={name}d leaves it out, where that is right"
            )
    if axcodes and sorted(axcodes.translate(str.maketrans("LPI", "RAS"))) != ["A", "R", "S"]:
        raise UserError(f"{config.file}: Orientationd has axcodes {axcodes!r}")
    return Geometry(axcodes, pixdim, transposed, pad), intensity


def _padding(config: Config, where: str, own: Mapping[str, Any]) -> Padding:
    """What ``DivisiblePadd`` says."""
    sizes = own.get("k", 0)
    mode, method = own.get("mode", "constant"), own.get("method", "symmetric")
    if not (isinstance(sizes, int) and sizes > 0 and mode in PAD_MODES) or method not in (
        "symmetric", "end",
    ):  # fmt: skip
        raise UserError(f"{config.file}: {where} pads by k={sizes}, {mode}, {method}")
    return Padding(sizes, PAD_MODES[mode], method == "end")


def _require_arguments(config: Config, where: str, scale: Any, own: Mapping[str, Any]) -> None:
    """UserError for an argument that is not heeded here."""
    valid = inspect.signature(scale).parameters
    unknown = [key for key, value in own.items() if key not in valid and value not in (None, False)]
    if unknown:
        raise UserError(f"{config.file}: {where}::{unknown[0]} is not done by segbench")
    for key in list(own):
        if key not in valid:
            own.pop(key)  # type: ignore[attr-defined]


def read_ending(config: Config, skip: frozenset[str]) -> Ending:
    """What becomes of the logits.

    Raises:
        UserError: there is a transform, not in ``skip``, that is not done here.
    """
    sigmoid, threshold = False, 0.5
    for where, name, arguments in _transforms(config, "postprocessing"):
        if f"{name}d" in skip:
            continue
        if name == "Activations":
            if arguments.get("other") is not None:
                raise UserError(f"{config.file}: {where}::other is not done by segbench")
            sigmoid = sigmoid or bool(arguments.get("sigmoid"))
        elif name == "AsDiscrete":
            given = arguments.get("threshold")
            threshold = threshold if given in (None, False, True) else float(given)
        else:
            raise UserError(
                f"{config.file}: {where} is {name}d, which changes the prediction beyond its "
                f"logits; monai-bundle:...,skip={name}d leaves it out, where that is right"
            )
    if not 0 < threshold < 1:
        raise UserError(f"{config.file}: AsDiscreted has the threshold {threshold}")
    return Ending(sigmoid, threshold if sigmoid else 0.5)


def read_window(config: Config, dims: int) -> dict[str, Any] | None:
    """The arguments of its sliding window; None where images are seen whole.

    Raises:
        UserError: its inferer is another, or not for data of ``dims`` dimensions.
    """
    if not config.has("inferer"):
        return None
    part = config.part(config.at("inferer", "inferer"), "inferer")
    name = part[0].rpartition(".")[2] if part else "SimpleInferer"
    if part is None or name == "SimpleInferer":
        return None
    if name != "SlidingWindowInferer":
        raise UserError(
            f"{config.file}: inferer is {name}; expected SlidingWindowInferer or Simple"
        )
    window = {key: value for key, value in part[1].items() if key in _WINDOW}
    window["roi_size"] = _listed(window.get("roi_size", []))
    window.setdefault("sw_batch_size", 1)
    if len(window["roi_size"]) != dims:
        raise UserError(
            f"{config.file}: inferer::roi_size is {window['roi_size']}, but the data have {dims} "
            "dimensions"
        )
    return window


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
