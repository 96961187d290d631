"""``hf:DIR[,prompt=box,jitter=5]``: a segmentation network that transformers saved.

DIR is what ``save_pretrained`` wrote: ``config.json`` and weights as safetensors. The class is one
of transformers' own; no code of the folder is run, nothing outside it is read or downloaded.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import nn

from segbench.atomic import read_regular
from segbench.errors import UserError
from segbench.networks.channels import channels_seen
from segbench.networks.hashes import layers_hash, source_hash, state_hash
from segbench.networks.huggingface_networks import Prompted, Queries, Semantic
from segbench.networks.libraries import does_not_import, import_library
from segbench.networks.loaded import LoadedModel
from segbench.networks.own import own_model
from segbench.networks.prompts import read_prompt

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.networks.wishes import Wishes

_SEMANTIC = ("ForSemanticSegmentation",)
_QUERIES = ("ForUniversalSegmentation", "ForInstanceSegmentation")
_PROMPTED = ("SamModel", "SamHQModel", "Sam2Model")
_IMAGE_PART = {"Sam2VideoModel": "Sam2Model"}  # as which SAM 2 is published; one frame has no past
_INDEX = "model.safetensors.index.json"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_RESCALE = 1 / 255
_PREPROCESSED = (  # beside scaling: key, what it does, and the key of its size
    ("do_resize", "resizes images", "size"),
    ("do_center_crop", "crops their centre", "crop_size"),
    ("do_pad", "pads them", "pad_size"),
    ("do_thumbnail", "makes thumbnails of them", ""),
    ("do_align_long_axis", "turns them", ""),
    ("do_reduce_labels", "takes label 0 for none and counts the others from 0 on", ""),
    ("reduce_labels", "takes label 0 for none and counts the others from 0 on", ""),
)


def load(path: Path, options: Mapping[str, str], dataset: Dataset, wishes: Wishes) -> LoadedModel:
    """The network of a folder.

    Raises:
        UserError: it cannot be read, is for something else, or does not fit the data set.
    """
    if dataset.spatial_dims != 2:
        raise UserError(
            f"{path} is for images, but the data are volumes (mode=slices gives slices)"
        )
    config = _read_json(path, "config.json")
    name = _class_name(config, path)
    _check_files(path)
    network = _load(_IMAGE_PART.get(name, name), path)
    scale = _scale(path)
    facts, licence = {"class": name, "labels": _labels(config)}, _licence(path) or "not said"
    if name in _PROMPTED or name in _IMAGE_PART:
        prompted = _prompted(network, config, options, dataset, wishes, scale, facts)
        return replace(prompted, licence=licence)
    if options:
        raise UserError(
            f"{path} is a {name}, which takes no prompt; leave {', '.join(options)} out"
        )
    body = Semantic(network) if name.endswith(_SEMANTIC) else Queries(network)
    said: tuple[str, ...] = ()
    if scale and not wishes.normalize:
        mean, std = ("+".join(f"{number:.6g}" for number in numbers) for numbers in scale)
        wishes = replace(wishes, normalize=f"mean={mean},std={std}")
    elif not wishes.normalize:
        said = ("no preprocessor_config.json says how its images are scaled; see --normalize",)
    said += _left_out(path)
    model = own_model(body, source_hash(body), dataset, wishes)
    shown = {**facts, "scale": wishes.normalize or "pixels in 0 to 1"}
    return replace(model, shown=shown, said=said, licence=licence)


def _prompted(
    network: nn.Module,
    config: Mapping[str, Any],
    options: Mapping[str, str],
    dataset: Dataset,
    wishes: Wishes,
    scale: tuple[list[float], list[float]] | None,
    facts: Mapping[str, str],
) -> LoadedModel:
    for option, value in wishes.given().items():
        if option != "--channels":
            raise UserError(f"{option} {value!r} is not for prompted networks; leave it out")
    channels = channels_seen(wishes.channels, dataset.in_channels)
    if channels != 3:
        raise UserError(
            f"it takes 3-channel images, but the data's have {channels}; give --channels repeat to "
            "have them converted inside the model"
        )
    prompt = read_prompt(options)
    mean, std = scale or _IMAGENET
    side = int(_vision(config).get("image_size", 1024) or 1024)
    padded = config.get("model_type") not in ("sam2", "sam2_video")  # which stretch an image
    module = Prompted(network, prompt, side, padded, mean, std, wishes.channels)
    return LoadedModel(
        module,
        state_hash(module),
        {"source": source_hash(module), "layers": layers_hash(module)},
        exact=True,
        shown={
            "class": facts["class"],
            "prompt": f"{prompt.kind} of each class, from the label map"
            + (f", moved by up to {prompt.jitter} pixels" if prompt.jitter else ""),
            "size": f"images are seen at {side} x {side}",
        },
        said=("it is prompted from the label map, so its clean score is not that of a detector",),
    )


def _vision(config: Mapping[str, Any]) -> Mapping[str, Any]:
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        return {}
    size = vision.get("image_size")
    if size is None and isinstance(vision.get("backbone_config"), dict):
        size = vision["backbone_config"].get("image_size")
    return {"image_size": size[0] if isinstance(size, list) else size}


def _class_name(config: Mapping[str, Any], path: Path) -> str:
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else "none"
    if name in (*_PROMPTED, *_IMAGE_PART) or name.endswith((*_SEMANTIC, *_QUERIES)):
        return name
    raise UserError(
        f"{path}/config.json names the network {name}; expected one ...ForSemanticSegmentation, "
        f"...ForUniversalSegmentation, {', '.join(_PROMPTED)}"
    )


def _check_files(path: Path) -> None:
    """Refuse what would have transformers read elsewhere, or something else than tensors."""
    if (path / "adapter_config.json").exists():
        raise UserError(f"{path} is an adapter of a network that lies elsewhere; merge and save it")
    if (path / _INDEX).is_file():
        listed = _read_json(path, _INDEX).get("weight_map", {})
        for file in set(listed.values()) if isinstance(listed, dict) else {str(listed)}:
            if not isinstance(file, str) or Path(file).name != file or file in (".", ".."):
                raise UserError(f"{path / _INDEX} leads to {file!r}, outside the folder")
    elif not (path / "model.safetensors").is_file():
        raise UserError(f"{path} has no model.safetensors; pickled weights are not read")


def _load(name: str, path: Path) -> nn.Module:
    transformers = _import()
    try:
        kind: Any = getattr(transformers, name, None)
    except Exception as error:  # its classes are imported when they are asked for
        raise does_not_import("transformers", error) from error
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise UserError(f"{path}/config.json names {name}, which this transformers does not have")
    load: Callable[..., Any] = vars(transformers)[name].from_pretrained
    try:
        network, report = load(
            path,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
            dtype="float32",
        )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, KeyError,
            AttributeError, ImportError) as error:  # fmt: skip
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} cannot be read by transformers: {reason}") from error
    missing = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    if missing:
        raise UserError(
            f"{path} holds no weights of {name} for {', '.join(sorted(missing)[:3])} "
            f"({len(missing)} in all)"
        )
    return network  # type: ignore[no-any-return]


def _import() -> ModuleType:
    """The library, told before it is read that there is no network."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = import_library("transformers", "hf")
    transformers.logging.set_verbosity_error()  # what it would warn of is checked here
    transformers.logging.disable_progress_bar()
    return transformers


def _scale(path: Path) -> tuple[list[float], list[float]] | None:
    """Mean and deviation of pixels in [0, 1], as far as the folder says."""
    if not (path / "preprocessor_config.json").is_file():
        return None
    said = _read_json(path, "preprocessor_config.json")
    if said.get("do_flip_channel_order"):
        raise UserError(f"{path}/preprocessor_config.json asks for BGR images")
    if not said.get("do_normalize", True):
        mean, std = [0.0], [1.0]
    else:
        mean, std = said.get("image_mean", [0.0]), said.get("image_std", [1.0])
    factor = said.get("rescale_factor", _RESCALE) if said.get("do_rescale", True) else 1.0
    try:
        share = _RESCALE / float(factor)  # of a network for 0 to 255 its numbers are as large
        return [float(m) * share for m in mean], [float(s) * share for s in std]
    except (TypeError, ValueError, ZeroDivisionError):
        raise UserError(f"{path}/preprocessor_config.json has no mean and deviation") from None


def _left_out(path: Path) -> tuple[str, ...]:
    """The sentence about what its own preprocessor does to images or labels, and is not done."""
    if not (path / "preprocessor_config.json").is_file():
        return ()
    said = _read_json(path, "preprocessor_config.json")
    done = [
        text + (f" to {_size(said[of])}" if said.get(of) else "")
        for key, text, of in _PREPROCESSED
        if said.get(key)
    ]
    if not done:
        return ()
    return (
        f"its own preprocessor also {', '.join(done)}; this is not done here: it sees images at "
        "the data's size (size= of the data set changes it) and is scored by the data's labels",
    )


def _size(said: Any) -> str:
    if isinstance(said, dict):
        return ", ".join(f"{key} {value}" for key, value in said.items())
    return str(said)


def _licence(path: Path) -> str:
    """The ``license:`` of its README's head, which is what the hub reads too."""
    try:
        lines = read_regular(path / "README.md")[:10_000].decode(errors="replace").splitlines()
    except OSError:
        return ""
    head = itertools.takewhile(lambda line: line.strip() != "---", lines[1:])
    said = [line.partition(":")[2].strip() for line in head if line.startswith("license:")]
    return said[0] if said and lines[0].strip() == "---" else ""


def _labels(config: Mapping[str, Any]) -> str:
    names = config.get("id2label")
    listed = list(names.values()) if isinstance(names, dict) else []
    return ", ".join(map(str, listed[:8])) + (", ..." if len(listed) > 8 else "") or "not said"


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        read = json.loads(read_regular(path / name))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path / name} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(read, dict):
        raise UserError(f"{path / name} holds no table")
    return read
