"""``monai-bundle:DIR[,config=inference,skip=NAME+NAME]``: a network of MONAI's, from its bundle."""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from segbench.errors import UserError
from segbench.networks.bundle_config import Bundle, Config, open_bundle
from segbench.networks.bundle_network import (
    INTENSITY,
    PAD_MODES,
    BundleNetwork,
    Ending,
    Geometry,
    Padding,
)
from segbench.networks.hashes import layers_hash, source_hash, state_hash
from segbench.networks.imported import refuse_wishes
from segbench.networks.loaded import LoadedModel
from segbench.networks.met import class_names_differ, clipped_data, proposed
from segbench.training.weights import load_content

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.networks.wishes import Wishes

_HARMLESS = frozenset(
    {
        "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor",
        "CastToType", "ToDevice", "DeleteItems", "Invert", "SaveImage", "CopyItems",
    }
)  # fmt: skip
_WINDOW = ("roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval")
_NOT_OURS = ("keys", "allow_missing_keys", "dtype")


def load(path: Path, options: Mapping[str, str], dataset: Dataset, wishes: Wishes) -> LoadedModel:
    """The network of a bundle, with all that its inference does to an image.

    Raises:
        UserError: it cannot be read, wants something that is not done here, or does not fit the
            data set.
    """
    refuse_wishes("monai-bundle", wishes)
    bundle = open_bundle(path, options.get("config", "inference"))
    skip = frozenset(filter(None, options.get("skip", "").split("+")))
    network = _network(bundle)
    said = _load_weights(bundle, network)
    geometry, intensity = _preprocessing(bundle.config, skip, dataset.spatial_dims)
    ending = _ending(bundle.config, skip)
    window = _window(bundle.config, dataset.spatial_dims)
    module = BundleNetwork(network, intensity, geometry, window, ending)
    _check_data(bundle, dataset)
    names = _classes(bundle)
    shown = {
        "bundle": f"{bundle.metadata.get('name', path.name)} {bundle.metadata.get('version', '')}",
        "scale": "; ".join(f"{name} {arguments}" for name, arguments in intensity) or "none",
        "tiles": "none" if window is None else f"{window['roi_size']}, overlap "
        f"{window.get('overlap', 0.25)}, {window.get('mode', 'constant')}",
        "classes": ", ".join(names) or "not said",
    }  # fmt: skip
    seen = _seen(intensity)
    if dataset.spatial_dims == 3:
        shown["data"] = proposed(seen, geometry.pixdim)
    if names and not ending.sigmoid:
        said += class_names_differ(names[1:], dataset)
    if skip:
        said += (f"{', '.join(sorted(skip))} left out, as asked for",)
    return LoadedModel(
        module,
        state_hash(module),
        {"source": source_hash(module), "layers": layers_hash(module)},
        exact=True,
        licence=_licence(bundle),
        shown=shown,
        said=(*said, *clipped_data(dataset, "the bundle", seen), *_windows(seen)),
    )


def _network(bundle: Bundle) -> nn.Module:
    """The network of ``network_def``: a class of ``monai.networks.nets``, and nothing else."""
    from monai.networks import nets

    config = bundle.config
    key = "network_def" if config.has("network_def") else "network"
    part = config.part(config.at(key, key), key)
    if part is None:
        raise UserError(f"{config.file}: {key} is disabled")
    target, arguments = part
    name = target.rpartition(".")[2]
    kind = getattr(nets, name, None)
    known = target in (name, f"monai.networks.nets.{name}") or target.startswith(
        "monai.networks.nets."
    )
    if not (known and inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise UserError(
            f"{config.file}: {key} is {target}; expected a class of monai.networks.nets"
        )
    if "_target_" in str(arguments):
        raise UserError(f"{config.file}: {key} has parts of its own to build, which is not done")
    if arguments.get("pretrained"):
        arguments["pretrained"] = False  # it would be downloaded; the bundle has its weights
    try:
        return kind(**arguments)
    except Exception as error:  # MONAI checks its arguments in any way
        raise UserError(f"{config.file}: {target} cannot be built: {error}") from error


def _load_weights(bundle: Bundle, network: nn.Module) -> tuple[str, ...]:
    content = bundle.read("models/model.pt")
    if content is None:
        raise UserError(f"{bundle.path} has no models/model.pt with weights")
    load_content(network, io.BytesIO(content).getvalue(), Path(f"{bundle.path}/models/model.pt"))
    return ()


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


def _preprocessing(
    config: Config, skip: frozenset[str], dims: int
) -> tuple[Geometry, list[tuple[str, dict[str, Any]]]]:
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


def _ending(config: Config, skip: frozenset[str]) -> Ending:
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


def _window(config: Config, dims: int) -> dict[str, Any] | None:
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


def _seen(intensity: list[tuple[str, dict[str, Any]]]) -> tuple[float, float] | None:
    """The window that the bundle itself looks through."""
    for name, own in intensity:
        if name == "ScaleIntensityRange" and own.get("clip"):
            return float(own["a_min"]), float(own["a_max"])
    return None


def _windows(seen: tuple[float, float] | None) -> tuple[str, ...]:
    """What eps means."""
    if seen is None:
        return ()
    return (
        f"it looks through the window {seen[0]:g} to {seen[1]:g} of the file's units; that window "
        f"as [0, 1] (window={seen[0]:g}..{seen[1]:g}) makes eps mean what it can see",
    )


def _licence(bundle: Bundle) -> str:
    """What its metadata, or the first line of its licence, say."""
    said = bundle.metadata.get("license") or bundle.metadata.get("licence")
    if said:
        return str(said)
    content = bundle.read("LICENSE") or b""
    lines = content[:2000].decode(errors="replace").splitlines()
    return next((line.strip() for line in lines if line.strip()), "")


def _classes(bundle: Bundle) -> list[str]:
    """The names of its channels, as far as its metadata say."""
    try:
        outputs = bundle.metadata["network_data_format"]["outputs"]["pred"]
        names = outputs["channel_def"]
        return [str(names[key]) for key in sorted(names, key=int)]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def _check_data(bundle: Bundle, dataset: Dataset) -> None:
    try:
        image = bundle.metadata["network_data_format"]["inputs"]["image"]
        channels = int(image["num_channels"])
    except (KeyError, TypeError, ValueError):
        return
    if channels != dataset.in_channels:
        raise UserError(
            f"{bundle.path} is for images of {channels} channels; the data have "
            f"{dataset.in_channels}"
        )
