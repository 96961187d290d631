"""What is to be trained: everything that is known of a training before its first epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segbench.api import Dataset
from segbench.errors import UserError
from segbench.plugins import spec
from segbench.plugins.architecture import Architecture, resolve_architecture
from segbench.plugins.registry import suggest
from segbench.store.workspace import Workspace
from segbench.training.card import Settings, checkpoint_name
from segbench.training.cases import hold_out
from segbench.training.defence import load_defence, named_defence
from segbench.training.lock import locked
from segbench.training.recipes import Recipe
from segbench.training.standing import begin_anew, is_replacing
from segbench.training.start import Start, find_start

_SEEDS = 2**63  # what the store's whole numbers hold


@dataclass(frozen=True, eq=False)
class Training:
    """Settings, what they are of, and where their checkpoint belongs.

    Attributes:
        folder: ``<workspace>/models/<model>@<data>#<seed>``.
        start: where it begins; None for the weights of its seed.
    """

    architecture: Architecture
    dataset: Dataset
    settings: Settings
    workspace: Workspace
    folder: Path
    start: Start | None

    def begin_anew(self) -> None:
        """Let it stand as unfinished, without an epoch yet, whatever it replaces.

        From now on ``train_model`` with ``resume`` carries it out. Several that are begun in their
        order, before the first is carried out, are replaced together: until they are all done the
        last of them ``is_replacing``.

        Raises:
            UserError: another process trains it now.
            MachineError: the folder cannot be written.
        """
        with locked(self.workspace, self.folder):
            begin_anew(self.folder, self.settings)

    def is_replacing(self) -> bool:
        """Whether it was begun anew and is not done; a state that cannot be read is as none."""
        self.workspace.refresh(self.folder)
        try:
            return is_replacing(self.folder, self.settings)
        except UserError:
            return False


def plan_training(
    model_spec: str,
    dataset: Dataset,
    dataset_spec: str,
    *,
    recipe: Recipe,
    seed: int,
    workspace: Workspace,
    split: str = "train",
    defence: str = "",
    start_from: Path | None = None,
) -> Training:
    """What ``train_model`` would carry out.

    Raises:
        UserError: the spec, split, recipe or start cannot be used.
    """
    architecture = resolve_architecture(model_spec, dataset.spatial_dims)
    start = find_start(start_from, defence, architecture, dataset)
    settings = _settings(
        architecture,
        dataset,
        dataset_spec,
        recipe,
        seed,
        split,
        str(named_defence(defence)) if defence else "",
        start.sha256 if start else "",
    )
    name = checkpoint_name(model_spec, dataset_spec, seed, settings.defence)
    return Training(architecture, dataset, settings, workspace, workspace.models / name, start)


def _settings(
    architecture: Architecture,
    dataset: Dataset,
    dataset_spec: str,
    recipe: Recipe,
    seed: int,
    split: str,
    defence: str,
    start_from: str,
) -> Settings:
    if not -_SEEDS <= seed < _SEEDS:
        raise UserError(f"seed {seed} is out of range; expected {-_SEEDS} to {_SEEDS - 1}")
    if split not in dataset.splits:
        raise UserError(f"unknown split {split!r}{suggest(split, dataset.splits)}")
    entries = dataset.entries(split)
    if not entries:
        raise UserError(
            f"the split {split!r} of {dataset_spec} has no cases to train on (a split by rule "
            "needs two patients or more, since the cases of one stay together)"
        )
    training, validation = hold_out(entries, recipe.validation_fraction, seed)
    return Settings(
        model=architecture.text,
        parameters=dict(architecture.parameters),
        in_channels=dataset.in_channels,
        num_classes=len(dataset.class_names),
        spatial_dims=dataset.spatial_dims,
        class_names=dataset.class_names,
        dataset=spec.parse(dataset_spec).name,
        dataset_spec=spec.canonical(dataset_spec),
        dataset_fingerprint=dataset.fingerprint(),
        split=split,
        train_cases=tuple(entry.case_id for entry in training),
        validation_cases=tuple(entry.case_id for entry in validation),
        recipe=recipe,
        seed=seed,
        defence=defence,
        defence_parameters=vars(load_defence(defence)).copy() if defence else {},
        start_from=start_from,
    )
