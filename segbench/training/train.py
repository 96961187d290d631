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
from segbench.atomic import remove
from segbench.engine.memory import is_out_of_memory
from segbench.engine.precision import Precision, choose_precision, device_name, require_ieee_fp32
from segbench.errors import MachineError, UserError, no_exit
from segbench.plugins import registry, spec
from segbench.store.workspace import Workspace
from segbench.training.card import UNFINISHED_FILE, Card
from segbench.training.checkpoint import save_checkpoint
from segbench.training.listener import Listener, Silence
from segbench.training.lock import locked
from segbench.training.plan import Training, plan_training
from segbench.training.progress import Progress
from segbench.training.recipes import Recipe
from segbench.training.session import Session
from segbench.training.standing import begin_anew, find_progress, is_trained

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
    training = plan_training(
        model_spec,
        dataset,
        dataset_spec,
        recipe=recipe,
        seed=seed,
        workspace=workspace,
        split=split,
        defence=defence,
        start_from=start_from,
    )
    return carry_out(
        training, resume=resume, force=force, device=device, listener=listener or Silence()
    )


def carry_out(
    training: Training,
    *,
    resume: bool,
    force: bool,
    device: torch.device | str,
    listener: Listener,
) -> Path:
    """The folder of the finished checkpoint; see ``train_model``."""
    folder, workspace = training.folder, training.workspace
    workspace.refresh(folder)
    is_settled = not force and not (folder / UNFINISHED_FILE).exists()
    if is_settled and _is_trained(training, listener):
        return folder
    with locked(workspace, folder):
        if force:
            progress = begin_anew(folder, training.settings)
        elif _is_trained(training, listener):
            return folder  # by the process that held the lock until now
        else:
            progress = find_progress(folder, training.settings, resume=resume)
        if progress.history:
            listener.note(f"{folder.name} resumes after epoch {len(progress.history)}")
        if note := _other_data(training):
            listener.note(note)
        _train(training, progress, torch.device(device), listener)
    return folder


def _is_trained(training: Training, listener: Listener) -> bool:
    if not is_trained(training.folder, training.settings):
        return False
    listener.note(f"{training.folder.name} is trained already, with these very settings")
    return True


def _other_data(training: Training) -> str:
    """That it begins from what other data taught, in a sentence; "" where that is not so."""
    ours, start = training.settings, training.start
    if start is None or start.learnt[0].dataset_fingerprint == ours.dataset_fingerprint:
        return ""
    return (
        f"{training.folder.name} begins from weights that were trained on {start.dataset}, "
        "other data than its own"
    )


def _train(
    training: Training, progress: Progress, device: torch.device, listener: Listener
) -> None:
    """From where ``progress`` is to the finished checkpoint."""
    settings, folder, start = training.settings, training.folder, training.start
    unfinished = folder / UNFINISHED_FILE
    precision = _precision(device, settings.spatial_dims)
    require_ieee_fp32()
    session = Session(
        training.architecture,
        training.dataset,
        settings,
        unfinished,
        device,
        precision,
        listener,
        None if start is None else start.weights,
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
    card = _card(training, progress, device, precision)
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


def _card(
    training: Training, progress: Progress, device: torch.device, precision: Precision
) -> Card:
    settings, start = training.settings, training.start
    defending = plugin = training.architecture.plugin
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
        start_gradients=None if start is None else start.gradients,
    )


def _summed(gradients: Sequence[int | None]) -> int | None:
    """Of all epochs; None where one is of a process that did not count."""
    known = [count for count in gradients if count is not None]
    return sum(known) if len(known) == len(gradients) else None
