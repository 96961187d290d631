"""A network in training, as a defence asks it, and how a batch is learnt from without one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from segbench.api import BringsLoss, Goal, Loss
from segbench.engine.precision import Precision
from segbench.engine.unpooling import with_places
from segbench.training.layout import channels_last
from segbench.training.loss import IGNORED, supervised_loss, two_classes
from segbench.training.recipes import Recipe

GRADIENTS = "gradients"


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """An ``api.Trainee`` over a module that a recipe trains.

    Attributes:
        asked: counts the images of which a gradient was asked, be it by the weights or by pixels.
    """

    module: nn.Module
    recipe: Recipe
    precision: Precision
    asked: Counter[str] = field(default_factory=Counter)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The module's own loss where it brings one, else the default."""
        outputs = self._asked(images, self.module)
        if isinstance(self.module, BringsLoss):
            return self.module.loss(outputs, labels)
        recipe = self.recipe
        return supervised_loss(
            outputs, labels, dice_weight=recipe.dice_weight, aux_weight=recipe.aux_weight
        )

    def logits(self, images: Tensor) -> Tensor:
        """The first of what it returns."""
        return _first(self._asked(images, self.module))

    def goal(self, labels: Tensor) -> Goal:
        """Away from the labels; pixels that are not trained on count for nothing."""
        return Goal(labels, labels, ignore_index=IGNORED)

    def ascent(self, images: Tensor, loss: Loss, goal: Goal) -> Tensor:
        """See ``api.Trainee``; the weights get no gradient of it, and it knows places of maxima."""
        leaf = images.detach().clone().requires_grad_()
        self.module.eval()
        try:
            with torch.enable_grad():
                logits = _first(self._asked(leaf, with_places(self.module)))
                (gradient,) = torch.autograd.grad(loss(logits, goal).sum(), leaf)
        finally:
            self.module.train()
        return gradient

    def _asked(self, images: Tensor, module: nn.Module) -> object:
        if torch.is_grad_enabled():
            self.asked[GRADIENTS] += len(images)
        low = self.precision.name == "bf16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            return module(channels_last(images))


def _first(outputs: object) -> Tensor:
    logits = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    assert isinstance(logits, Tensor)
    return two_classes(logits).float()
