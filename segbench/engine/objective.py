"""The Objective: the one door through which attacks ask the network, counted and batched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from segbench.api import Feedback, Goal, Loss
from segbench.engine.features import only, watched
from segbench.engine.handed import handed, input_gradient, laid_out
from segbench.engine.memory import is_out_of_memory
from segbench.engine.network import Network
from segbench.engine.prepare import GradientCopy
from segbench.engine.returned import check_loss
from segbench.errors import MachineError, UserError, no_exit
from segbench.metrics import regions

Part = TypeVar("Part")


class NetworkObjective:
    """An ``api.Objective`` over a :class:`Network`.

    A batch that does not fit in memory is halved and asked again, without losing work; the network
    remembers the size that fitted. ``forwards`` and ``backwards`` count per case asked.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.forwards = 0
        self.backwards = 0
        self._one_loss = threading.Lock()  # a plug-in's may note things on itself

    def value_and_grad(self, images: Tensor, loss: Loss, goal: Goal) -> Feedback:
        """Loss per case, gradient, logits; from the gradient copy, signed to be ascended.

        Where the network draws on purpose, all three are means over its draws (EOT).
        """
        self.forwards += len(images) * self.network.samples
        self.backwards += len(images) * self.network.samples
        return self.answer(
            None if goal.layer else self.network.copies.of(loss, goal), images, loss, goal
        )

    def answer(self, copy: GradientCopy | None, images: Tensor, loss: Loss, goal: Goal) -> Feedback:
        """What a copy answers; None for one whose layers are looked into. It is not counted."""
        parts = self._in_parts(images, lambda at: self._gradient(images[at], loss, goal, at, copy))
        if len(parts) == 1:
            return parts[0]
        return Feedback(
            torch.cat([part.loss for part in parts]),
            torch.cat([part.gradient for part in parts]),
            torch.cat([part.logits for part in parts]),
        )

    def scores(self, images: Tensor) -> Tensor:
        """Logits (B, K, *spatial) of the original network in fp32."""
        self.forwards += len(images)
        parts = self._in_parts(images, lambda at: self.network.exact_logits(images[at]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def labels(self, images: Tensor) -> Tensor:
        """Labels int64 (B, *spatial) of the original network in fp32."""
        return self.network.as_labels(self.scores(images))

    def remaining(self, images: Tensor, goal: Goal) -> Tensor:
        """What is left to do (B,), by the original network in fp32; see ``api.Objective``."""
        return remaining(self.network, self.labels(images), goal)

    def _gradient(
        self, images: Tensor, loss: Loss, goal: Goal, at: slice, copy: GradientCopy | None
    ) -> Feedback:
        samples = self.network.samples
        mean = self._one_gradient(images, loss, goal, at, copy)
        for n in range(1, samples):
            drawn = self._one_gradient(images, loss, goal, at, copy)
            mean = Feedback(
                mean.loss.lerp(drawn.loss, 1 / (n + 1)),
                mean.gradient.lerp(drawn.gradient, 1 / (n + 1)),
                mean.logits.lerp(drawn.logits, 1 / (n + 1)),
            )
        return mean

    def _one_gradient(
        self, images: Tensor, loss: Loss, goal: Goal, at: slice, copy: GradientCopy | None
    ) -> Feedback:
        goal = replace(
            goal,
            labels=goal.labels[at],
            truth=goal.truth[at],
            weights=None if goal.weights is None else goal.weights[at],
            start=None if goal.start is None else goal.start[at],
            clean_features=None if goal.clean_features is None else goal.clean_features[at],
            structures=self.network.structures,
        )
        leaf = laid_out(images.detach()).requires_grad_()
        if copy is None:
            answer, features = self._watched(leaf, goal.layer)
            goal = replace(goal, features=features)
        else:
            with torch.enable_grad(), copy.autocast():
                answer = copy.module(handed(leaf))
        with torch.enable_grad():
            logits = self.network.canonical(answer, leaf)
            with self._one_loss:
                value = loss(logits, goal)
            check_loss(value, len(images))
            if goal.targeted:
                value = -value
            if not value.requires_grad:
                if reason := getattr(self.network.module, "no_gradient", ""):
                    raise UserError(f"model {self.network.name} gives no gradient: {reason}")
                raise UserError(
                    f"model {self.network.name} gives no gradient: its answer does not depend "
                    "differentiably on the image; a layer that stops it may bring a stand_in "
                    "(segbench.api.BringsStandIn)"
                )
            gradient = input_gradient(value.sum(), leaf)
        return Feedback(value.detach(), gradient.contiguous(), logits.detach())

    def features(self, images: Tensor, layer: str) -> Tensor:
        """What a layer (its full name) makes of images, (B, F, *places) in fp32."""
        self.forwards += len(images)

        def ask(at: slice) -> Tensor:
            return self._watched(images[at].detach(), layer)[1].detach()

        return torch.cat(self._in_parts(images, ask))

    def _watched(self, images: Tensor, layer: str) -> tuple[Any, Tensor]:
        """The answer to images, with gradient, and what the layer made of them on the way."""
        copy = self.network.copies.watchable()
        with torch.enable_grad(), copy.autocast(), watched(copy.module, layer) as seen:
            answer = copy.module(handed(images))
        return answer, only(seen, layer, self.network.name, images)

    def _in_parts(self, images: Tensor, ask: Callable[[slice], Part]) -> list[Part]:
        """``ask`` about consecutive slices of the images; what is asked at once fits in memory."""
        cases, parts = len(images), list[Part]()
        size, start = min(self.network.largest_batch or cases, cases), 0
        while start < cases:
            try:
                with no_exit(f"model {self.network.name}"):
                    parts += self.network.answers(
                        ask, images, range(start, min(start + size, cases))
                    )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise MachineError("one case does not fit in memory; use a smaller size") from (
                        error
                    )
                size = self.network.largest_batch = size // 2
                continue
            start += size
        return parts


def remaining(network: Network, predicted: Tensor, goal: Goal) -> Tensor:
    """What an attack that gave these labels (B, *spatial) has left to do (B,): 0 is the worst."""
    if goal.targeted:
        return 1 - network.agreement(predicted, goal.labels, goal.truth, goal.ignore_index)
    return regions.case_score(network.score(predicted, goal.truth, goal.ignore_index))
