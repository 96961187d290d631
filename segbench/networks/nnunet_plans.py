"""The results folder of a trained nnU-Net v2, read without running a word of it.

    Dataset004_X/nnUNetTrainer__nnUNetPlans__3d_fullres/
        dataset.json  plans.json
        fold_0/  checkpoint_final.pth  validation/summary.json

The architecture stands in the plans; its class must be one of ``dynamic-network-architectures``'
U-Nets, its layers torch's own. Isensee et al., Nature Methods 18:203-211, 2021.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from segbench.atomic import read_regular
from segbench.errors import UserError
from segbench.networks.libraries import import_library
from segbench.networks.resampling import ANISOTROPIC

_NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
_LIBRARY = "dynamic_network_architectures.architectures."
_SCHEMES = (
    "CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization",
    "RGBTo01Normalization",
)  # fmt: skip
_NUMBER = re.compile(r"\d+")  # a key of a summary is "1", or of a region "(1, 2)"
_RESAMPLING = "resample_data_or_seg_to_shape"
_HEEDED = ("order", "order_z", "force_separate_z")
_USUAL = {"is_seg": False, "separate_z_anisotropy_threshold": ANISOTROPIC}


@dataclass(frozen=True, eq=False)
class Plans:
    """What a results folder says of its network.

    Attributes:
        folder: that of the trainer, with the folds.
        configuration: its name, such as ``3d_fullres``.
        settings: of that configuration, what it inherits filled in.
        plans: all of ``plans.json``.
        dataset: all of ``dataset.json``.
        folds: their names, such as ``0`` or ``all``.
    """

    folder: Path
    configuration: str
    settings: Mapping[str, Any]
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    folds: tuple[str, ...]

    @property
    def labels(self) -> Mapping[str, Any]:
        """Name -> value, or the values of a region; what is ignored left out."""
        return {name: value for name, value in self.dataset["labels"].items() if name != "ignore"}

    @property
    def regions(self) -> bool:
        """Whether its heads are regions, each with a sigmoid."""
        return any(isinstance(value, list) for value in self.labels.values())

    @property
    def heads(self) -> int:
        """How many channels its answer has."""
        return len(self.labels) - self.regions

    @property
    def classes(self) -> int:
        """K, background included."""
        return len(self.dataset["regions_class_order"]) + 1 if self.regions else len(self.labels)

    @property
    def scored(self) -> Mapping[tuple[int, ...], tuple[int, ...]]:
        """What nnU-Net scores: the values in its files -> the classes K that they are here."""
        if not self.regions:
            return {(n,): (n,) for n in range(1, self.classes)}
        classes = {v: n for n, v in enumerate(sorted(self.dataset["regions_class_order"]), 1)}
        wholes = [v if isinstance(v, list) else [v] for v in self.labels.values()]
        return {tuple(v): tuple(classes[n] for n in v) for v in wholes if v != [0]}

    @property
    def channels(self) -> int:
        """C."""
        return len(self.dataset["channel_names"])


def read_plans(folder: Path, configuration: str | None, folds: str | None) -> Plans:
    """The trained network in a folder: the trainer's, or that of its data set.

    Raises:
        UserError: there is none, or one that cannot be rebuilt here; the reason is named.
    """
    trainer = _trainer_folder(folder, configuration)
    plans, dataset = _read_json(trainer / "plans.json"), _read_json(trainer / "dataset.json")
    name = trainer.name.rpartition("__")[2]
    if "cascade" in name:
        raise UserError(
            f"{trainer} is the second stage of a cascade: it takes the first one's prediction, "
            "which is no image, beside the image; give another configuration"
        )
    try:
        settings = _settings(plans["configurations"], name)
        found = _folds(trainer, folds)
        read = Plans(trainer, name, settings, plans, dataset, found)
        _check(read)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{trainer} is no results folder of nnU-Net v2 as this segbench knows them: "
            f"its plans lack {error}"
        ) from None
    return read


def checkpoint_file(plans: Plans, fold: str, name: str = "final") -> Path:
    """The weights of a fold."""
    return plans.folder / f"fold_{fold}" / f"checkpoint_{name}.pth"


def _trainer_folder(folder: Path, configuration: str | None) -> Path:
    """The folder that holds plans.json: the one given, or one below it."""
    if (folder / "plans.json").is_file():
        if configuration and not folder.name.endswith(f"__{configuration}"):
            raise UserError(f"{folder} is not of configuration {configuration!r}; leave it out")
        return folder
    below = sorted(path.parent for path in folder.glob("*__*__*/plans.json"))
    wanted = [path for path in below if path.name.rpartition("__")[2] == configuration]
    found = wanted if configuration else below
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in below) or "none"
    which = f" of configuration {configuration!r}" if configuration else ""
    many = "several trained networks" if found else "no trained network"
    raise UserError(f"{folder} holds {many}{which} of nnU-Net (found: {names}); name its folder")


def _folds(trainer: Path, text: str | None) -> tuple[str, ...]:
    there = sorted(
        path.parent.name.removeprefix("fold_") for path in trainer.glob("fold_*/checkpoint_*.pth")
    )
    there = sorted(set(there))
    wanted = tuple(text.split("+")) if text else tuple(there)
    missing = [fold for fold in wanted if fold not in there]
    if missing or not wanted:
        raise UserError(
            f"{trainer} has no fold {', '.join(missing) or 'at all'} with a checkpoint "
            f"(there: {', '.join(there) or 'none'})"
        )
    return wanted


def _settings(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    own = dict(configurations[name])
    parent = own.pop("inherits_from", None)
    return {**_settings(configurations, parent), **own} if parent else own


def _check(plans: Plans) -> None:
    settings, where = plans.settings, plans.folder / "plans.json"
    unknown = sorted(set(settings["normalization_schemes"]) - set(_SCHEMES))
    if unknown:
        raise UserError(f"{where} normalises by {unknown[0]}, which segbench does not know")
    for key in ("resampling_fn_data", "resampling_fn_probabilities"):
        if settings[key] != _RESAMPLING:
            raise UserError(f"{where} has {key} = {settings[key]!r}; expected {_RESAMPLING!r}")
        for name, value in settings[f"{key}_kwargs"].items():
            if name not in _HEEDED and (name, value) not in _USUAL.items():
                raise UserError(f"{where} has {key}_kwargs {name} = {value!r}, which is not done")
    if len(settings["normalization_schemes"]) != plans.channels:
        raise UserError(f"{where} has not one normalisation for each of {plans.channels} channels")
    if not plans.regions and sorted(plans.labels.values()) != list(range(len(plans.labels))):
        raise UserError(f"{plans.folder / 'dataset.json'} has labels that are not 0, 1, 2, ...")


def build_network(plans: Plans) -> Any:
    """The network that the plans describe, with weights at random.

    Raises:
        UserError: the library is not there, or the plans name something else than it and torch.
        MachineError: the library does not import.
    """
    unet = import_library("dynamic_network_architectures.architectures.unet", "nnunet")
    where = plans.folder / "plans.json"
    architecture = plans.settings["architecture"]
    name = str(architecture["network_class_name"])
    if not name.startswith(_LIBRARY) or name.rpartition(".")[2] not in _NETWORKS:
        raise UserError(f"{where} names the network {name}; segbench builds {', '.join(_NETWORKS)}")
    arguments = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        arguments[key] = _layer(arguments[key], where)
    try:
        return getattr(unet, name.rpartition(".")[2])(
            input_channels=plans.channels,
            num_classes=plans.heads,
            deep_supervision=False,
            **arguments,
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"{where} describes no network that can be built: {error}") from error


def _layer(name: Any, where: Path) -> Any:
    """A layer of torch's own by its dotted name; nothing is imported."""
    from torch import nn

    if name is None:
        return None
    found = getattr(nn, str(name).rpartition(".")[2], None)
    whole = str(name).startswith("torch.nn.")
    if not (whole and isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{where} names the layer {name}; expected one of torch.nn")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(read_regular(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(read, dict):
        raise UserError(f"{path} holds no table")
    return read


def validation_jaccard(plans: Plans) -> dict[str, float]:
    """Case -> its class mean of Jaccard, as nnU-Net measured it; {} of several folds, or regions.

    A case of the validation was predicted by the one fold that had not seen it.
    """
    if len(plans.folds) > 1 or plans.regions:
        return {}
    found = {}
    for name, dices in validation_dice(plans, plans.folds[0]).items():
        there = [dice / (2 - dice) for dice in dices if not math.isnan(dice)]
        if there:
            found[name] = fmean(there)
    return found


def validation_dice(plans: Plans, fold: str) -> dict[str, list[float]]:
    """Case -> Dice of each class or region, as nnU-Net itself measured it; {} where it did not."""
    path = plans.folder / f"fold_{fold}" / "validation" / "summary.json"
    if not path.is_file():
        return {}
    found = {}
    try:
        for one in _read_json(path)["metric_per_case"]:
            name = Path(one["prediction_file"]).name.removesuffix(plans.dataset["file_ending"])
            metrics = {tuple(map(int, _NUMBER.findall(k))): v for k, v in one["metrics"].items()}
            found[name] = [float(metrics[values]["Dice"]) for values in plans.scored]
    except (KeyError, TypeError, ValueError):
        return {}
    return found


def validation_cases(plans: Plans, fold: str) -> frozenset[str]:
    """The names of the cases that nnU-Net validated a fold on; none where it did not."""
    path = plans.folder / f"fold_{fold}" / "validation" / "summary.json"
    if not path.is_file():
        return frozenset()
    try:
        cases = _read_json(path)["metric_per_case"]
        return frozenset(
            Path(one["prediction_file"]).name.removesuffix(plans.dataset["file_ending"])
            for one in cases
        )
    except (KeyError, TypeError, ValueError):
        return frozenset()
