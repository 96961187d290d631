"""``hf:DIR[,prompt=box,jitter=5]``: a segmentation network that transformers saved.

DIR is what ``save_pretrained`` wrote: ``config.json`` and weights as safetensors. The class is one
of transformers' own; no code of the folder is run, nothing outside it is read or downloaded.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
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
from segbench.networks.huggingface_processor import (
    FLAT,
    NESTED,
    ImageProcessor,
    read_processor,
    read_table,
)
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
_REMEDY = "--normalize says how its images are scaled"
_ALONE = "here its images are scaled by --normalize alone"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def load(path: Path, options: Mapping[str, str], dataset: Dataset, wishes: Wishes) -> LoadedModel:
    """The network of a folder.

    Raises:
        UserError: it cannot be read, is for something else, or does not fit the data set.
    """
    if dataset.spatial_dims != 2:
        raise UserError(
            f"{path} is for images, but the data are volumes (mode=slices gives slices)"
        )
    config = read_table(path / "config.json")
    name = _class_name(config, path)
    _check_files(path)
    network = _load(_IMAGE_PART.get(name, name), path)
    facts, licence = {"class": name, "labels": _labels(config)}, _licence(path) or "not said"
    if name in _PROMPTED or name in _IMAGE_PART:
        processor = read_processor(path, _import())
        prompted = _prompted(network, config, options, dataset, wishes, processor, facts)
        return replace(prompted, licence=licence)
    if options:
        raise UserError(
            f"{path} is a {name}, which takes no prompt; leave {', '.join(options)} out"
        )
    body = Semantic(network) if name.endswith(_SEMANTIC) else Queries(network)
    wishes, said = _scaled(path, wishes, channels_seen(wishes.channels, dataset.in_channels))
    model = own_model(body, source_hash(body), dataset, wishes)
    shown = {**facts, "scale": wishes.normalize or "pixels in 0 to 1"}
    return replace(model, shown=shown, said=said, licence=licence)


def _scaled(path: Path, wishes: Wishes, channels: int) -> tuple[Wishes, tuple[str, ...]]:
    """What is wished for with the scale that the folder says, and what of it is to be told.

    Raises:
        UserError: ``--normalize`` is not given, and the folder does not say how images of so many
            channels are scaled.
    """
    try:
        processor = read_processor(path, _import())
    except UserError as error:
        if wishes.normalize:
            return wishes, (f"{error}; what it does beside scaling is not known",)
        raise UserError(f"{error}; {_REMEDY}") from error
    if processor is None:
        unsaid = f"no {FLAT} or {NESTED} says how its images are scaled"
        return wishes, () if wishes.normalize else (
            f"{unsaid}: it is shown pixels in 0 to 1; see --normalize",
        )
    try:
        scale = processor.scale()
    except UserError as error:
        if wishes.normalize:
            return wishes, (f"{error}; {_ALONE}", *processor.left_out())
        raise UserError(f"{error}; {_REMEDY}") from error
    if wishes.normalize:
        return wishes, processor.left_out()
    count = max(map(len, scale))
    if count not in (1, channels):
        raise UserError(
            f"{processor.file} scales images of {count} channels, but those that it is shown have "
            f"{channels}; --channels changes that, or {_REMEDY}"
        )
    return replace(wishes, normalize=_shown(*scale)), processor.left_out()


def _prompted(
    network: nn.Module,
    config: Mapping[str, Any],
    options: Mapping[str, str],
    dataset: Dataset,
    wishes: Wishes,
    processor: ImageProcessor | None,
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
    side = int(_vision(config).get("image_size", 1024) or 1024)
    mean, std = processor.scale() if processor else _IMAGENET
    if not {len(mean), len(std)} <= {1, channels}:
        raise UserError(f"its mean and deviation are for other images than of {channels} channels")
    assumed = f"no {FLAT} or {NESTED} says how its images are scaled: ImageNet's numbers are taken"
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
            "scale": _shown(mean, std),
        },
        said=(
            "it is prompted from the label map, so its clean score is not that of a detector",
            *(processor.other_side(side) if processor else (assumed,)),
        ),
    )


def _shown(mean: Sequence[float], std: Sequence[float]) -> str:
    """As ``--normalize`` takes it."""
    shown = ("+".join(f"{number:.6g}" for number in numbers) for numbers in (mean, std))
    return "mean={},std={}".format(*shown)


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
        listed = read_table(path / _INDEX).get("weight_map", {})
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
