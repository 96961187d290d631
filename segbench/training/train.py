"""Train a network on a data set into a checkpoint; exactly resumable, deterministic under a seed.

The same settings give the same weights bit for bit on one machine with one number of threads,
interrupted or not.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from segbench.api import Dataset
from segbench.atomic import remove, shown
from segbench.engine.memory import is_out_of_memory
from segbench.engine.precision import Precision, choose_precision, device_name, require_ieee_fp32
from segbench.errors import MachineError, UserError, no_exit
from segbench.plugins import registry, spec
from segbench.plugins.architecture import Architecture, resolve_architecture
from segbench.plugins.registry import Plugin, suggest
from segbench.store.workspace import Workspace
from segbench.training.card import (
    CARD_FILE,
    UNFINISHED_FILE,
    Card,
    Settings,
    checkpoint_name,
    difference,
    load_card,
)
from segbench.training.cases import hold_out
from segbench.training.checkpoint import save_checkpoint
from segbench.training.defence import load_defence, named_defence
from segbench.training.listener import Listener, Silence
from segbench.training.lock import locked
from segbench.training.progress import Progress, load_progress
from segbench.training.recipes import Recipe
from segbench.training.session import Session
from segbench.training.start import Start, find_start

_SEEDS = 2**63  # what the store's whole numbers hold
_ONE_VALUE = "Expected more than 1 value per channel when training"  # torch's words


def train_model(
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
    resume: bool = False,
    force: bool = False,
    device: torch.device | str = "cpu",
    listener: Listener | None = None,
) -> Path:
    """The folder of the finished checkpoint, ``<workspace>/models/<model>@<data>#<seed>``.

    A finished checkpoint of the same settings is returned at once. ``resume`` continues an
    unfinished training, exactly; ``force`` starts over whatever is there. ``defence`` is the spec
    of how batches are learnt from, and ``start_from`` the checkpoint folder of the same
    architecture whose best weights it begins with.

    Raises:
        UserError: the spec, split or recipe cannot be used, or the folder holds a training with
            other settings, or an unfinished one and neither ``resume`` nor ``force`` is given, or
            another process trains it now.
        MachineError: the loss is no number, memory or disk is full, or the plug-in fails.
    """
    listener = listener or Silence()
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
    folder = workspace.models / checkpoint_name(model_spec, dataset_spec, seed, settings.defence)
    workspace.refresh(folder)
    if not force and _is_trained(folder, settings, listener):
        return folder
    with locked(workspace, folder):
        if not force and _is_trained(folder, settings, listener):
            return folder  # by the process that held the lock until now
        progress = Progress()
        if not force and (folder / UNFINISHED_FILE).exists():
            progress = _unfinished(folder, settings, resume)
            listener.note(f"{folder.name} resumes after epoch {len(progress.history)}")
        place = torch.device(device)
        _train(architecture, dataset, settings, folder, progress, place, listener, start)
    return folder


def _is_trained(folder: Path, settings: Settings, listener: Listener) -> bool:
    """Whether there is a checkpoint; refused where it is one of other settings."""
    if not (folder / CARD_FILE).exists():
        return False
    _refuse_other(settings, load_card(folder), folder)
    listener.note(f"{folder.name} is trained already, with these very settings")
    return True


def _train(
    architecture: Architecture,
    dataset: Dataset,
    settings: Settings,
    folder: Path,
    progress: Progress,
    device: torch.device,
    listener: Listener,
    start: Start | None,
) -> None:
    """From where ``progress`` is to the finished checkpoint in ``folder``."""
    unfinished = folder / UNFINISHED_FILE
    precision = _precision(device, dataset.spatial_dims)
    require_ieee_fp32()
    weights = None if start is None else start.weights
    session = Session(
        architecture, dataset, settings, unfinished, device, precision, listener, weights
    )
    try:
        with no_exit(f"model {settings.model}"):
            session.run(progress)
    except (RuntimeError, MemoryError, ValueError) as error:
        if _ONE_VALUE in str(error):
            raise UserError(
                f"training {settings.model} met a batch of one case, of which its batch norm has "
                "but one value per channel; give it more training cases, or a larger batch_size"
            ) from error
        if not is_out_of_memory(error):
            raise
        raise MachineError(
            f"training {settings.model} does not fit into the memory of {device}; "
            f"try a batch_size below {settings.recipe.batch_size}"
        ) from error
    card = _card(settings, progress, architecture.plugin, device, precision, start)
    save_checkpoint(folder, progress.best, progress.weights, card)
    remove(unfinished)


def _precision(device: torch.device, spatial_dims: int) -> Precision:
    """bf16 where it is native, but of volumes on a CPU.

    There oneDNN's bf16 gradient of the weights of a 3-D convolution is whatever the memory held,
    NaN among it, where a level is but two voxels wide.
    """
    if spatial_dims == 3 and device.type == "cpu":
        return Precision("fp32", "a CPU's bf16 gradients of 3-D weights are not to be trusted")
    return choose_precision(device, "auto")


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


def _unfinished(folder: Path, settings: Settings, resume: bool) -> Progress:
    """The progress to go on from, if the user wants to and the settings are the same."""
    theirs, progress = load_progress(folder / UNFINISHED_FILE)
    if not resume:
        raise UserError(
            f"{shown(folder)} holds an unfinished training ({len(progress.history)} of "
            f"{theirs.recipe.epochs} epochs); give --resume to continue it or --force to start over"
        )
    _refuse_other(settings, theirs, folder)
    return progress


def _refuse_other(ours: Settings, theirs: Settings, folder: Path) -> None:
    found = difference(ours, theirs)
    if found:
        raise UserError(
            f"{shown(folder)} holds a training with other settings ({found}); "
            "give --force to replace it, or another --workspace or --seed"
        )


def _card(
    settings: Settings,
    progress: Progress,
    plugin: Plugin,
    device: torch.device,
    precision: Precision,
    start: Start | None,
) -> Card:
    defending = plugin
    if settings.defence:
        defending = registry.load("defences", spec.parse(settings.defence).name)
    now = datetime.datetime.now(datetime.UTC)
    return Card(
        **dict(settings),
        plugin=plugin.distribution,
        best_epoch=progress.best_epoch,
        best_jaccard=progress.best_jaccard,
        last_jaccard=progress.history[-1].jaccard,
        history=tuple(progress.history),
        contents=progress.contents,
        inherited=() if start is None else start.learnt,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("segbench", "torch", "monai")},
            plugin.distribution: plugin.version,
            defending.distribution: defending.version,
        },
        hardware=f"{device_name(device)}, {torch.get_num_threads()} threads",
        precision=precision.name,
        created=now.isoformat(timespec="seconds"),
        seconds=sum(score.seconds for score in progress.history),
        gradients=_summed([score.gradients for score in progress.history]),
    )


def _summed(gradients: Sequence[int | None]) -> int | None:
    """Of all epochs; None where one is of a process that did not count."""
    known = [count for count in gradients if count is not None]
    return sum(known) if len(known) == len(gradients) else None
