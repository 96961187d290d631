"""One epoch of training and one of validation; no model is known here by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from segbench.api import BringsPostprocess
from segbench.metrics.regions import score_regions
from segbench.training.cases import CaseMemory, Sample
from segbench.training.layout import channels_last
from segbench.training.loss import IGNORED, two_classes
from segbench.training.recipes import Recipe


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam or AdamW over what is trainable; biases and norms (one axis or none) do not decay."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(filled, lr=recipe.learning_rate)
    return torch.optim.AdamW(filled, lr=recipe.learning_rate)


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """The share of the peak learning rate at one step of ``steps``: linear up, then cosine to 0."""
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def train_epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Sample],
    *,
    losses: Callable[[Tensor, Tensor], Iterator[Tensor]],
    learning_rate: Callable[[int], float],
    after_batch: Callable[[int], None],
) -> float:
    """One pass over batches on the network's device; the mean loss over cases.

    ``losses`` makes of a batch what is descended, an update each. ``learning_rate`` and
    ``after_batch`` get the batch's number in this epoch, from 0.
    """
    module.train()
    total: Tensor | float = 0.0  # stays on the device: no step waits for it
    cases = 0
    for number, (images, labels) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number)
        for loss in losses(images, labels):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.detach() * len(images)
            cases += len(images)
        after_batch(number)
    return float(total / cases)


@torch.no_grad()
def validate(
    module: nn.Module, memory: CaseMemory, case_ids: Sequence[str], classes: int
) -> float | None:
    """Mean over cases of the mean Jaccard of the foreground classes that a case's label has.

    In fp32 and one by one, so that it depends on no batch; None where no case has a foreground.
    """
    module.eval()
    device = next(module.parameters()).device
    scores = []
    for case_id in case_ids:
        image, labels = memory[case_id]
        output = module(channels_last(image[None].to(device)))
        logits = two_classes(output[0] if isinstance(output, (tuple, list)) else output)
        predicted = (
            module.postprocess(logits)
            if isinstance(module, BringsPostprocess)
            else logits.argmax(1)
        )
        jaccard = score_regions(predicted.cpu(), labels[None], classes, IGNORED).jaccard
        scores.append(jaccard.nanmean())
    mean = float(torch.stack(scores).nanmean()) if scores else math.nan
    return None if math.isnan(mean) else mean
