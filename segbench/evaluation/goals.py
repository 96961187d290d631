"""What a cell's attack is after on the data: away from the truth, or to its target; and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from segbench.api import Dataset, Goal, Targeted, TransferAttack
from segbench.engine.network import Network
from segbench.engine.targets import check_class, target_labels
from segbench.evaluation.batch import Batch
from segbench.evaluation.grid import Cell
from segbench.evaluation.mask_files import case_mask, check_masks, check_twins, masks_digest
from segbench.evaluation.request import DataSource
from segbench.plugins.attack import NamedAttack, load_attack
from segbench.plugins.where import mask_folder

_FILE = "file:"


def goal_of(network: Network, batch: Batch, cell: Cell) -> Goal:
    """Away from the truth, or towards the target that the attack names."""
    attack: object = cell.attack.attack if cell.attack else None
    ignore, truth = batch.cases[0].ignore_index, batch.truth
    if not isinstance(attack, Targeted) or attack.target is None:
        return Goal(truth, truth, ignore_index=ignore)
    if folder := target_folder(attack.target):
        classes = len(batch.cases[0].class_names)
        masks = np.stack([case_mask(folder, case, classes) for case in batch.cases])
        target = network.as_truth(torch.from_numpy(masks).to(truth.device), None)
        target = target if ignore is None else target.where(truth != ignore, ignore)
        return Goal(target, truth, targeted=True, ignore_index=ignore)
    names = batch.cases[0].class_names
    target = target_labels(attack.target, truth, names, ignore, structures=network.structures)
    return Goal(target, truth, targeted=True, ignore_index=ignore)


def check_goal(data: DataSource, attack: NamedAttack) -> None:
    """Refuse an attack whose target or region the data does not have; of a transfer, its source's.

    Raises:
        UserError: there is no such class, or its masks do not fit, see ``check_masks``.
    """
    if isinstance(attack.attack, TransferAttack):
        attack = load_attack(attack.attack.attack)
    folder = target_folder(getattr(attack.attack, "target", None))
    if folder is not None:
        check_masks(folder, data.entries, len(data.dataset.class_names), "targets")
    if region := mask_folder(attack.where):
        check_masks(region, data.entries, 2, "regions")
    if isinstance(attack.attack, Targeted) and attack.attack.target is not None:
        check_class(attack.attack.target, data.dataset.class_names)


def check_targets(attack: NamedAttack, contents: Mapping[str, str]) -> None:
    """UserError where files have two masks for one content; see ``check_twins``."""
    if isinstance(attack.attack, TransferAttack):
        attack = load_attack(attack.attack.attack)
    target = target_folder(getattr(attack.attack, "target", None))
    for folder in (target, mask_folder(attack.where)):
        if folder is not None:
            check_twins(folder, contents)


def target_folder(text: str | None) -> Path | None:
    """The folder that a target names; None for every other target, or none."""
    if text is None or not text.startswith(_FILE):
        return None
    return Path(text.removeprefix(_FILE)).expanduser()


def is_targeted(attack: NamedAttack | None) -> bool:
    """Whether it leads to a target; a transfer's images are of its source's cell."""
    return attack is not None and getattr(attack.attack, "target", None) is not None


def target_facts(attack: NamedAttack | None, dataset: Dataset) -> Sequence[str] | None:
    """What an attack leads to, where that comes from files: the masks, and which case is whose.

    A mask is found by its case's name, which the data set's fingerprint covers.
    """
    folder = target_folder(getattr(attack.attack, "target", None)) if attack else None
    return None if folder is None else (masks_digest(folder), dataset.fingerprint())


def region_facts(attack: NamedAttack | None, dataset: Dataset) -> Sequence[str] | None:
    """The same of where it may perturb, where that comes from files."""
    folder = mask_folder(attack.where) if attack else None
    return None if folder is None else (masks_digest(folder), dataset.fingerprint())
