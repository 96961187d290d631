"""`hf/NAME:folder=PATH`: a segmentation network of transformers from a folder on this machine.

NAME is a class such as SegformerForSemanticSegmentation, PATH what its `save_pretrained` wrote:
`config.json`, weights as safetensors, and, where the network has one, `preprocessor_config.json`,
whose mean and deviation are used (without it those of segbench's own networks, 0.5 and 0.25).
Nothing is downloaded and no code of the folder is run. The folder's weights are where training
starts; a head for another count of classes starts at random. Its logits are upsampled to the
images' size. Images only, no volumes. An extra: pip install 'segbench[hf]'.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from segbench.networks.channels import Channels, channels_seen, convert_channels
from segbench_models.extras import import_extra
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.library_network import LibraryNetwork
from segbench_models.normalization import Normalize

_SUFFIX = "ForSemanticSegmentation"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_EXPECTED = "expected one that save_pretrained wrote, with config.json and model.safetensors"


def member(name: str) -> Callable[..., nn.Module]:
    """The factory of a class of transformers.

    Raises ValueError for a name that is no class for semantic segmentation.
    """
    network = _find_class(name)

    def build(
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        folder: str = "",
        stride: int = 32,
        channels: Channels | None = None,
    ) -> nn.Module:
        """The network in a `folder`, its images padded to multiples of `stride`.

        `channels` is `repeat` for an RGB network on gray data, `luminance` for the reverse.
        """
        check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
        check_at_least(1, stride=stride)
        if spatial_dims != 2:
            raise ValueError(f"hf/{name} is for images, but the data has {spatial_dims} dimensions")
        path = _check_folder(name, folder)
        _check_kind(network, path)
        seen = channels_seen(channels, in_channels)
        loaded = _load(network, path, seen, num_classes)
        front = Front(_normalization(path, seen), channels)
        return LibraryNetwork(
            Logits(loaded),
            in_channels=in_channels,
            spatial_dims=spatial_dims,
            stride=stride,
            normalize=front,
        )

    return build


def _find_class(name: str) -> Any:
    """The class of that name; ValueError if it is none for semantic segmentation."""
    transformers = _import()
    if not name.endswith(_SUFFIX) or not hasattr(transformers, name):
        raise ValueError(
            f"transformers has no such network for semantic segmentation, expected one such as "
            f"Segformer{_SUFFIX}, UperNet{_SUFFIX}"
        )
    return getattr(transformers, name)


class Front(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> what the network was trained on."""

    def __init__(self, normalize: Normalize, channels: Channels | None) -> None:
        super().__init__()
        self.normalize = normalize
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Convert the channels where asked to, then normalise."""
        out: Tensor = self.normalize(convert_channels(images, self.channels))
        return out


class Logits(nn.Module):
    """The logits (B, K, h, w) of a network of transformers, at its own resolution."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Of all it answers, the logits."""
        logits: Tensor = self.network(pixel_values=images).logits
        return logits


def _import() -> ModuleType:
    """The library, told before it is read that there is no network."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = import_extra("transformers", package="transformers", extra="hf")
    transformers.logging.set_verbosity_error()  # what it would warn of is checked here
    transformers.logging.disable_progress_bar()
    return transformers


def _check_folder(name: str, folder: str) -> Path:
    path = Path(folder)
    if not folder:
        raise ValueError(f"hf/{name} needs folder=PATH, {_EXPECTED}")
    if not path.is_dir():
        raise ValueError(f"the folder {folder!r} does not exist, {_EXPECTED}")
    if not (path / "config.json").is_file() or not any((path / n).is_file() for n in _WEIGHTS):
        raise ValueError(f"the folder {folder!r} lacks a file, {_EXPECTED}")
    return path


def _check_kind(network: Any, path: Path) -> None:
    """Refuse a folder of another kind of network than the class; Auto classes take any."""
    held = json.loads((path / "config.json").read_text()).get("model_type")
    config = getattr(network, "config_class", None)
    wanted = config.model_type if config else held
    if held != wanted:
        raise ValueError(f"the folder {str(path)!r} holds a {held} network, expected {wanted}")


def _load(network: Any, path: Path, in_channels: int, num_classes: int) -> nn.Module:
    """The folder's network with a head for so many classes, every other weight the folder's."""
    try:
        built, report = network.from_pretrained(
            path,
            num_labels=num_classes,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            dtype="float32",
        )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"the folder {str(path)!r} cannot be read ({reason}), {_EXPECTED}"
        ) from error
    wanted = getattr(built.config, "num_channels", in_channels)
    if wanted != in_channels:
        raise ValueError(
            f"the folder {str(path)!r} holds a network for {wanted} channels, but it would see "
            f"{in_channels}; channels=repeat shows gray images as RGB, channels=luminance the "
            "reverse"
        )
    # Of a head that starts anew only the first axis, the classes, may differ.
    bad = [name for name, *shapes in report["mismatched_keys"] if shapes[0][1:] != shapes[1][1:]]
    bad += sorted(report["missing_keys"])
    if bad:
        raise ValueError(
            f"the folder {str(path)!r} holds no weights of {network.__name__} for "
            f"{', '.join(bad[:3])} ({len(bad)} in all), {_EXPECTED}"
        )
    module: nn.Module = built
    return module


def _normalization(path: Path, channels: int) -> Normalize:
    """The mean and deviation that the network was trained with, as far as the folder says."""
    file = path / "preprocessor_config.json"
    if not file.is_file():
        return Normalize(channels, 2)
    said = json.loads(file.read_text())
    if said.get("do_flip_channel_order"):
        raise ValueError(f"{str(file)!r} asks for BGR images, which segbench does not give")
    if not said.get("do_normalize", True) or "image_mean" not in said:
        return Normalize(channels, 2, (0.0,), (1.0,))
    mean, std = said["image_mean"], said["image_std"]
    if {len(mean), len(std)} - {1, channels}:
        raise ValueError(f"{str(file)!r} has {len(mean)} means for {channels} channels")
    return Normalize(channels, 2, mean, std)
