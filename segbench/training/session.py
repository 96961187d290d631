"""A training from its first or its next epoch to its last, saved after every one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from segbench.api import BringsStages, Dataset
from segbench.engine.precision import Precision
from segbench.errors import MachineError, UserError
from segbench.plugins.architecture import Architecture
from segbench.training.augment import derive_seed
from segbench.training.card import EpochScore, Settings
from segbench.training.cases import CaseMemory, batch_count, epoch_batches, prepared_ahead
from segbench.training.defence import checked, load_defence
from segbench.training.layout import lay_out_channels_last
from segbench.training.listener import Listener
from segbench.training.loop import (
    make_optimizer,
    train_epoch,
    validate,
    warm_cosine,
)
from segbench.training.progress import Progress, save_progress
from segbench.training.state_dicts import tensors_of
from segbench.training.trainee import GRADIENTS, TrainedNetwork

Losses = Callable[[Tensor, Tensor], Iterator[Tensor]]
"""Images and labels of a batch -> what is descended, an update each."""


@dataclass(frozen=True)
class Session:
    """All that a training needs; ``run`` carries a Progress to its end.

    Attributes:
        unfinished: the file that holds the state after every epoch.
        start: the weights to begin with; None for those that the seed draws.
    """

    architecture: Architecture
    dataset: Dataset
    settings: Settings
    unfinished: Path
    device: torch.device
    precision: Precision
    listener: Listener
    start: Mapping[str, Tensor] | None = None

    def run(self, progress: Progress) -> None:
        """Train the epochs that are missing, in place; then every case's content is known.

        Training time is shared equally among the stages of a network that has them, each with its
        own optimizer and schedule; only epochs of the last stage compete for the best. Of a defence
        the last epoch counts: a clean score would choose the least robust.

        Raises:
            UserError: there are fewer epochs than stages.
            MachineError: the loss is no number, or the state cannot be written.
        """
        epochs = self.settings.recipe.epochs
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            module = self._build()
            memory = CaseMemory(self.dataset)
            stages = list_stages(module, self.settings.model, epochs)
            count = max(1, len(stages))
            for number in range(count):
                if isinstance(module, BringsStages):
                    torch.manual_seed(derive_seed(self.settings.seed, "stage", number))
                    module.enter_stage(stages[number])
                first, end = number * epochs // count, (number + 1) * epochs // count
                self._run_stage(module, memory, progress, range(first, end), number == count - 1)
        self._read_missing(memory, progress)

    def _read_missing(self, memory: CaseMemory, progress: Progress) -> None:
        """What a state of an older version did not say of the cases that it had read."""
        cases = (*self.settings.train_cases, *self.settings.validation_cases)
        for case_id in cases:
            if case_id not in progress.contents:
                memory[case_id]
        progress.contents |= memory.contents

    def _run_stage(
        self,
        module: nn.Module,
        memory: CaseMemory,
        progress: Progress,
        epochs: range,
        is_last: bool,
    ) -> None:
        recipe = self.settings.recipe
        optimizer = make_optimizer(module, recipe)
        done = len(progress.history)
        if done - 1 in epochs:
            module.load_state_dict(progress.weights)
            optimizer.load_state_dict(progress.optimizer)
        for epoch in range(max(epochs.start, done), epochs.stop):
            started = time.perf_counter()
            loss, gradients = self._train_epoch(module, optimizer, memory, epoch, epochs)
            jaccard = validate(
                module, memory, self.settings.validation_cases, self.settings.num_classes
            )
            seconds = time.perf_counter() - started
            best = progress.best_jaccard
            score = EpochScore(loss=loss, jaccard=jaccard, seconds=seconds, gradients=gradients)
            progress.history.append(score)
            progress.contents |= memory.contents
            progress.weights, progress.optimizer = _copy(module), optimizer.state_dict()
            better = best is None or jaccard is None or jaccard >= best
            if is_last and (better or self.settings.defence):
                progress.best_epoch, progress.best = epoch + 1, progress.weights
            save_progress(self.unfinished, self.settings, progress)
            self.listener.epoch(epoch + 1, recipe.epochs, loss, jaccard, seconds)

    def _train_epoch(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        memory: CaseMemory,
        epoch: int,
        stage: range,
    ) -> tuple[float, int]:
        """The mean loss, and the gradients that it took."""
        recipe, seed, cases = self.settings.recipe, self.settings.seed, self.settings.train_cases
        batches = epoch_batches(memory, cases, recipe, seed=seed, epoch=epoch)
        count = batch_count(len(cases), recipe.batch_size)
        before, steps = (epoch - stage.start) * count, len(stage) * count
        torch.manual_seed(derive_seed(seed, epoch, "dropout"))
        trainee = TrainedNetwork(module, recipe, self.precision)
        loss = train_epoch(
            module,
            optimizer,
            prepared_ahead(batches, self.device),
            losses=self._losses(trainee, epoch),
            learning_rate=lambda batch: (
                recipe.learning_rate
                * warm_cosine(before + batch, steps, recipe.warmup_epochs * count)
            ),
            after_batch=lambda batch: self.listener.batch(batch + 1, count),
        )
        if not math.isfinite(loss):
            raise MachineError(
                f"training {self.settings.model} diverged: the loss is {loss} in epoch "
                f"{epoch + 1}; try a learning_rate below {recipe.learning_rate:g}"
            )
        return loss, trainee.asked[GRADIENTS]

    def _losses(self, trainee: TrainedNetwork, epoch: int) -> Losses:
        """What a batch is learnt by, with the defence where there is one."""
        if not self.settings.defence:
            return lambda images, labels: iter([trainee.loss(images, labels)])
        defence, draws = load_defence(self.settings.defence), torch.Generator()
        draws.manual_seed(derive_seed(self.settings.seed, epoch, "defence"))
        name = self.settings.defence
        return lambda images, labels: checked(defence.losses(trainee, images, labels, draws), name)

    def _build(self) -> nn.Module:
        """The network with its initial weights: a function of the seed, or another training's."""
        torch.manual_seed(derive_seed(self.settings.seed, "weights"))
        module = self.architecture.build(
            in_channels=self.settings.in_channels,
            num_classes=self.settings.num_classes,
            spatial_dims=self.settings.spatial_dims,
        )
        if self.start is not None:
            module.load_state_dict(self.start)
        return lay_out_channels_last(module.to(self.device))


def list_stages(module: nn.Module, model: str, epochs: int) -> list[str]:
    """The stages that a network brings, none for most, once so many epochs are enough for them.

    Raises:
        UserError: there are fewer epochs than stages.
    """
    stages = list(module.stages()) if isinstance(module, BringsStages) else []
    if len(stages) > epochs:
        raise UserError(
            f"model {model} is trained in {len(stages)} stages "
            f"({', '.join(stages)}), so it needs at least as many epochs, not {epochs}"
        )
    return stages


def _copy(module: nn.Module) -> dict[str, Tensor]:
    """A snapshot of the network's state, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in tensors_of(module).items()}
