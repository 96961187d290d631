"""``nnunet:DIR[,configuration=3d_fullres,folds=0+1,checkpoint=final]``: a trained nnU-Net v2."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from segbench.errors import UserError
from segbench.networks.hashes import layers_hash, source_hash, state_hash
from segbench.networks.imported import refuse_wishes
from segbench.networks.loaded import Compared, LoadedModel
from segbench.networks.met import class_names_differ, clipped_data, proposed
from segbench.networks.nnunet_cases import training_cases
from segbench.networks.nnunet_network import NnunetNetwork
from segbench.networks.nnunet_plans import (
    Plans,
    build_network,
    checkpoint_file,
    read_plans,
    validation_dice,
    validation_jaccard,
)
from segbench.training.weights import load_part

if TYPE_CHECKING:
    from segbench.api import Case, Dataset
    from segbench.networks.wishes import Wishes


def load(path: Path, options: Mapping[str, str], dataset: Dataset, wishes: Wishes) -> LoadedModel:
    """The network of a results folder, its folds averaged.

    Raises:
        UserError: it cannot be read or rebuilt, or does not fit the data set.
    """
    refuse_wishes("nnunet", wishes)
    plans = read_plans(path, options.get("configuration"), options.get("folds"))
    _check_data(plans, dataset)
    folds, mirroring = [], set()
    for fold in plans.folds:
        network = build_network(plans)
        file = checkpoint_file(plans, fold, options.get("checkpoint", "final"))
        rest = load_part(network, file, "network_weights")
        mirroring.add(_axes(rest.get("inference_allowed_mirroring_axes"), file))
        folds.append(network)
    if len(mirroring) > 1:
        raise UserError(f"the folds of {plans.folder} were trained with different mirroring")
    module = NnunetNetwork(folds, mirroring.pop(), plans)
    if plans.regions and _overlap(dataset):
        module.keep_regions()
    facts = {"source": source_hash(module), "layers": layers_hash(module)}
    known = training_cases(plans)
    return LoadedModel(
        module,
        state_hash(module),
        facts,
        exact=True,
        licence=str(plans.dataset.get("licence") or plans.dataset.get("license") or ""),
        shown=_shown(plans, module),
        learnt=known.learnt,
        said=(*_said(plans, dataset, module), *known.said(dataset)),
        oracle=_oracle(plans, module, dataset),
        measured=validation_jaccard(plans),
    )


def agreement(plans: Plans, module: NnunetNetwork, dataset: Dataset) -> Iterator[Compared]:
    """Clean Dice of each validation case beside what nnU-Net measured itself.

    Each by the fold that had not seen it, as nnU-Net predicted it, whatever folds are averaged.
    """
    held = {entry.case_id for split in dataset.splits for entry in dataset.entries(split)}
    for own, fold in zip(module.folds, plans.folds, strict=True):
        alone = NnunetNetwork([own], module.mirroring, plans)
        measured = validation_dice(plans, fold)
        for name in sorted(held & measured.keys()):
            found = _dice(alone, dataset.load(name), plans.scored.values())
            pairs = list(zip(found, measured[name], strict=True))
            away = max((_apart(ours, theirs) for ours, theirs in pairs), default=0.0)
            shown = ", ".join(f"{ours:.4f} ({theirs:.4f})" for ours, theirs in pairs)
            yield Compared(f"fold {fold} {name}: Dice {shown}, {away:.4f} apart", away)


def _apart(ours: float, theirs: float) -> float:
    """Of two Dice; NaN is that of what is neither in the image nor predicted."""
    if math.isnan(ours) or math.isnan(theirs):
        return 0.0 if math.isnan(ours) and math.isnan(theirs) else 1.0
    return abs(ours - theirs)


@torch.no_grad()
def _dice(module: NnunetNetwork, case: Case, scored: Iterable[Sequence[int]]) -> list[float]:
    module.eval().meet(case)
    predicted = module(torch.from_numpy(case.image)[None])[0].argmax(0).numpy()
    scores = []
    for labels in scored:
        ours, truth = np.isin(predicted, labels), np.isin(case.labels, labels)
        both = int(ours.sum() + truth.sum())
        scores.append(2 * int((ours & truth).sum()) / both if both else float("nan"))
    return scores


def _oracle(
    plans: Plans, module: NnunetNetwork, dataset: Dataset
) -> Callable[[], Iterator[Compared]] | None:
    """None where it came without a validation, or answers with regions that it does not paint."""
    if not module.painted and plans.regions:
        return None
    if not any(validation_dice(plans, fold) for fold in plans.folds):
        return None
    return lambda: agreement(plans, module, dataset)


def _axes(value: Any, file: Path) -> tuple[int, ...]:
    if value is None:
        return ()
    if isinstance(value, (tuple, list)) and all(
        type(axis) is int and 0 <= axis < 3 for axis in value
    ):
        return tuple(value)
    raise UserError(f"{file} says no axes that it may be mirrored along")


def _check_data(plans: Plans, dataset: Dataset) -> None:
    volumes = len(plans.settings["patch_size"]) == 3
    if volumes and dataset.spatial_dims != 3:
        raise UserError(
            f"{plans.folder} is a network for volumes; the data are images (mode=volumes reads "
            "NIfTI as volumes)"
        )
    for what, ours, theirs in (
        ("channels", plans.channels, dataset.in_channels),
        ("classes", plans.classes, len(dataset.class_names)),
    ):
        if ours != theirs:
            raise UserError(f"{plans.folder} was trained for {ours} {what}; the data have {theirs}")


def _shown(plans: Plans, module: NnunetNetwork) -> dict[str, str]:
    tile = " x ".join(map(str, module.tile))
    mirrors = ", ".join(map(str, module.mirroring)) or "none"
    return {
        "nnU-Net": f"{plans.folder.name}, folds {' + '.join(plans.folds)}",
        "scale": ", ".join(module.schemes),
        "spacing": " x ".join(f"{n:g}" for n in module.spacing) + " mm, resampled to and back",
        "tiles": f"{tile}, half a tile apart, Gaussian; mirrored along axes {mirrors}",
        "classes": ", ".join(plans.labels),
        "data": proposed(_seen(module)),
    }


def _seen(module: NnunetNetwork) -> tuple[float, float] | None:
    """The values that it clips to, where all its channels are CT's."""
    if set(module.schemes) != {"CTNormalization"}:
        return None
    return (
        min(facts["percentile_00_5"] for facts in module.foreground),
        max(facts["percentile_99_5"] for facts in module.foreground),
    )


def _overlap(dataset: Dataset) -> bool:
    """Whether the data's classes are regions that overlap, as its own are."""
    entry = next(e for split in dataset.splits for e in dataset.entries(split))
    return dataset.load(entry.case_id).regions is not None


def _said(plans: Plans, dataset: Dataset, module: NnunetNetwork) -> tuple[str, ...]:
    seen = _seen(module)
    said = [*clipped_data(dataset, "nnU-Net", seen)]
    if seen:
        said.append(
            f"it clips to {seen[0]:g} to {seen[1]:g} of the file's units; that window as [0, 1] "
            f"(window={seen[0]:g}..{seen[1]:g}) makes eps mean what it can see"
        )
    if not plans.regions:
        names = [name for name, value in plans.labels.items() if value != 0]
        ordered = sorted(names, key=plans.labels.__getitem__)
        said += class_names_differ(ordered, dataset)
    return tuple(said)
