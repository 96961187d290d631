"""Which cases an nnU-Net was trained on, as far as its results folder says.

Each fold's ``validation/summary.json`` lists the cases that it held out of the training set, and
all folds together hold out every case of it. ``splits_final.json``, where it lies beside them,
lists both. A fold ``all`` was trained on what it validates on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segbench.atomic import read_regular
from segbench.networks.nnunet_plans import Plans, validation_cases

if TYPE_CHECKING:
    from segbench.api import Dataset

_ALL = "all"
_SPLITS = "splits_final.json"

Names = frozenset[str]


@dataclass(frozen=True)
class TrainingCases:
    """What is known of a network's training set.

    Attributes:
        listed: the cases that are of it, whatever their fold.
        learnt: those that one of the chosen folds was trained on.
        whole: whether ``listed`` is all of it.
    """

    listed: Names
    learnt: Names
    whole: bool

    def said(self, dataset: Dataset) -> tuple[str, ...]:
        """Sentences about cases of the data that it was, or may have been, trained on."""
        there = {entry.case_id for split in dataset.splits for entry in dataset.entries(split)}
        learnt, unknown = there & self.learnt, there - self.listed
        said = []
        if learnt:
            said.append(
                f"by their names {len(learnt)} of the data's {len(there)} cases are of its "
                "training; their rows are marked"
            )
        if self.listed and unknown and not self.whole:
            said.append(
                f"{len(unknown)} of the data's {len(there)} cases are not among those that its "
                "folder says were held out, nor does it name all others: it may be trained on them"
            )
        return tuple(said)


def training_cases(plans: Plans) -> TrainingCases:
    """What the folder says; nothing where it has no list."""
    held = _held_out(plans)
    splits = _splits(plans, held)
    if splits:
        listed = _union(*(train | val for train, val in splits.values()))
        trained = {fold: train for fold, (train, _) in splits.items()}
    else:
        listed = _union(*held.values())
        trained = {fold: listed - cases for fold, cases in held.items()}
    trained[_ALL] = listed
    learnt = _union(*(trained.get(fold, frozenset()) for fold in plans.folds))
    whole = bool(splits) or plans.dataset.get("numTraining") == len(listed)
    return TrainingCases(listed, learnt, whole)


def _held_out(plans: Plans) -> dict[str, Names]:
    """Fold -> what its validation lists, of all folds: each list is of the training set."""
    folds = (path.name.removeprefix("fold_") for path in sorted(plans.folder.glob("fold_*")))
    return {fold: cases for fold in folds if (cases := validation_cases(plans, fold))}


def _splits(plans: Plans, held: Mapping[str, Names]) -> dict[str, tuple[Names, Names]]:
    """Fold -> its training and its validation; {} where no file says so that fits the folds."""
    files = [folder / _SPLITS for folder in (plans.folder, plans.folder.parent)]
    for file in (one for one in files if one.is_file()):
        try:
            read: Any = json.loads(read_regular(file))
            found = {
                str(n): (frozenset(map(str, one["train"])), frozenset(map(str, one["val"])))
                for n, one in enumerate(read)
            }
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if all(fold not in found or found[fold][1] == cases for fold, cases in held.items()):
            return found
    return {}


def _union(*names: Names) -> Names:
    return frozenset[str]().union(*names)
