"""``monai-bundle:DIR[,config=inference,skip=NAME+NAME]``: a network of MONAI's, from its bundle."""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from segbench.errors import UserError
from segbench.networks.bundle_config import Bundle, open_bundle
from segbench.networks.bundle_inference import read_ending, read_preprocessing, read_window
from segbench.networks.bundle_network import BundleNetwork
from segbench.networks.hashes import layers_hash, source_hash, state_hash
from segbench.networks.imported import refuse_wishes
from segbench.networks.loaded import LoadedModel
from segbench.networks.met import class_names_differ, clipped_data, proposed
from segbench.training.weights import load_content

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.networks.wishes import Wishes


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
    geometry, intensity = read_preprocessing(bundle.config, skip, dataset.spatial_dims)
    ending = read_ending(bundle.config, skip)
    window = read_window(bundle.config, dataset.spatial_dims)
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
    if names:  # of sigmoids none is the background's
        said += class_names_differ(names if ending.sigmoid else names[1:], dataset)
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
