"""The losses that know the score, against the score itself and against their definitions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from segbench.api import Goal
from segbench.metrics import regions
from segbench_attacks import losses, score_losses
from segbench_attacks.losses import named_loss

IGNORE = -7
SCENES = {"two classes": (2, 16, 12), "four classes": (4, 16, 12), "3-D": (3, 6, 8, 5)}
NAMES = (
    "scored-hinge", "soft-hinge", "lovasz", "soft-jaccard", "metric-ce", "metric-hinge",
    "metric-jsd", "metric-logit-norm", "reach", "scored-reach",
)  # fmt: skip


def scene(name: str, right: float = 0.8) -> tuple[Tensor, Goal]:
    """Logits (2, K, *spatial), and labels of which a share is as predicted; some are ignored."""
    if name == "structures":
        generator = torch.Generator().manual_seed(6)
        logits = torch.randn(2, 2, 3, 16, 12, generator=generator, dtype=torch.float64)
        labels = logits.argmax(1)
    else:
        classes, *spatial = SCENES[name]
        generator = torch.Generator().manual_seed(5)
        logits = 2 * torch.randn(2, classes, *spatial, generator=generator, dtype=torch.float64)
        labels = logits.argmax(1)
    drawn = torch.randint(0, logits.shape[1], labels.shape, generator=generator)
    wrong = torch.rand(labels.shape, generator=generator) > right
    labels = labels.where(~wrong, drawn)
    labels[..., 0] = IGNORE
    goal = Goal(labels, labels, ignore_index=IGNORE, structures=name == "structures")
    return logits, goal


def score(logits: Tensor, goal: Goal) -> Tensor:
    """The case's score, as it is computed for the tables."""
    predicted = logits.argmax(1)
    if goal.structures:
        scored = regions.score_structures(predicted, goal.labels, IGNORE)
    else:
        scored = regions.score_regions(predicted, goal.labels, logits.shape[1], IGNORE)
    return regions.case_score(scored)


@pytest.mark.parametrize("name", [*SCENES, "structures"])
def test_a_pixel_weighs_what_the_score_changes_by_when_it_turns(name: str) -> None:
    """To first order: a turn that makes a union larger by one is worth a share of 1/U less."""
    logits, goal = scene(name)
    before = score(logits, goal)
    weight = score_losses.metric_weight(logits, goal)
    number = (goal.labels != IGNORE).flatten(1).sum(1)
    valid = (goal.labels != IGNORE).nonzero()
    for at in valid[:: len(valid) // 60].tolist():
        b, *place = at
        turned, y = logits.clone(), int(goal.labels[tuple(at)])
        own = (b, slice(None), *place)
        z = turned[own].clone()
        right = int(z.argmax()) == y
        z[y] = -9 if right else 99
        turned[own] = z
        change = (before - score(turned, goal))[b].abs()
        torch.testing.assert_close(weight[tuple(at)] / number[b], change, rtol=0.05, atol=1e-9)
    assert not weight[goal.labels == IGNORE].any()


def test_a_class_that_the_labels_lack_is_worth_nothing_and_no_class_makes_all_pixels_equal() -> (
    None
):
    logits, goal = scene("four classes")
    without = goal.labels.where(goal.labels != 2, 0)
    goal = replace(goal, labels=without, truth=without)
    strongest = logits.scatter(1, without.clamp_min(0)[:, None], -torch.inf).argmax(1)
    weight = score_losses.metric_weight(logits, goal)
    assert not weight[(without == 0) & (strongest == 2)].any()
    empty = without.where(without == IGNORE, 0)
    even = score_losses.metric_weight(logits, replace(goal, labels=empty, truth=empty))
    assert torch.equal(even, (empty != IGNORE).to(even))


def jaccards(predicted: Tensor, labels: Tensor, scored: list[int]) -> float:
    """The mean soft Jaccard of predicted values (R, N) in [0, 1] with labels (N,)."""
    values = []
    for row, k in zip(predicted, scored, strict=True):
        truth = (labels == k).to(row)
        if truth.any():
            shared = (row * truth).sum()
            values.append((shared / (row.sum() + truth.sum() - shared)).item())
    return sum(values) / len(values)


@pytest.mark.parametrize("name", [*SCENES, "structures"])
def test_soft_jaccard_by_its_definition_and_both_jaccard_losses_at_hard_answers(name: str) -> None:
    """Where the softmax is 0 or 1 the soft Jaccard and the Lovász extension are the score's."""
    logits, goal = scene(name)
    number = (goal.labels != IGNORE).flatten(1).sum(1)
    hard = 200 * torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1)
    for loss in (score_losses.soft_jaccard, score_losses.lovasz):
        torch.testing.assert_close(loss(hard.double(), goal), (1 - score(logits, goal)) * number)
    if name == "structures":
        return
    for b in range(2):
        valid = goal.labels[b] != IGNORE
        p = logits[b].softmax(0)[1:, valid]
        expected = 1 - jaccards(p, goal.labels[b][valid], list(range(1, logits.shape[1])))
        found = score_losses.soft_jaccard(logits, goal)[b] / number[b]
        assert found.item() == pytest.approx(expected)


def test_lovasz_is_the_extension_of_the_set_function() -> None:
    """Sorted by error, each error times what the Jaccard loses when its pixel joins the errors."""
    logits, goal = scene("two classes")
    for b in range(2):
        valid = goal.labels[b] != IGNORE
        p, truth = logits[b].softmax(0)[1, valid], goal.labels[b][valid] == 1
        errors = torch.where(truth, 1 - p, p)
        total, before, wrong = 0.0, 0.0, torch.zeros_like(truth)
        for i in errors.argsort(descending=True):
            wrong[i] = True
            missed = (truth & wrong).sum().item()
            union = (truth | wrong).sum().item()
            lost = 1 - (truth.sum().item() - missed) / union
            total += errors[i].item() * (lost - before)
            before = lost
        found = score_losses.lovasz(logits, goal)[b] / valid.sum()
        assert found.item() == pytest.approx(total)


def test_masked_cross_entropy_weighted_by_class_is_a_mean_over_classes() -> None:
    """Of each class that the case has, the summed cross-entropy of its pixels still right."""
    logits, goal = scene("four classes")
    for b in range(2):
        valid = goal.labels[b] != IGNORE
        z, y = logits[b][:, valid].T, goal.labels[b][valid]
        ce = torch.nn.functional.cross_entropy(z, y, reduction="none") * (z.argmax(1) == y)
        means = [ce[y == k].sum() / (y == k).sum() for k in y.unique()]
        expected = torch.stack(means).mean() * valid.sum()
        torch.testing.assert_close(score_losses.weighted_cross_entropy(logits, goal)[b], expected)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("targeted", [False, True])
def test_reach_pulls_as_its_weight_says(targeted: bool, progress: float) -> None:
    """Its Lovász slope, times exp(-|m| / cs): c from 30 to 0.3 where still to turn, or 0.3."""
    logits, goal = scene("two classes")
    moved = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).double()
    goal = replace(goal, targeted=targeted, start=logits - moved)
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score_losses.reach(leaf, goal, progress).sum(), leaf)
    valid, y = goal.labels != IGNORE, goal.labels.clamp_min(0)
    side = 1 - 2 * y
    margin = (logits[:, 1] - logits[:, 0]) * side
    number = valid.flatten(1).sum(1)
    shift = ((moved[:, 1] - moved[:, 0]).abs() * valid).flatten(1).sum(1) / number
    ahead = {0.0: 30.0, 0.5: 3.0, 1.0: 0.3}[progress]
    far = torch.where((margin < 0) != targeted, ahead, 0.3).double() * shift[:, None, None]
    worth = torch.zeros_like(margin)
    for b in range(2):
        order = sorted(valid[b].nonzero().tolist(), key=lambda at: -margin[b][tuple(at)])
        kept, union = int((y[b] * valid[b]).sum()), int((y[b] * valid[b]).sum())
        for row, column in order:
            before = kept / union
            kept, union = (kept - 1, union) if y[b, row, column] else (kept, union + 1)
            worth[b, row, column] = (before - kept / union) * number[b]
        assert kept == 0
    torch.testing.assert_close(gradient[:, 1] * side, worth * torch.exp(-margin.abs() / far))
    nowhere = score_losses.reach(logits, replace(goal, start=logits), progress)
    assert nowhere.isfinite().all()


def test_scored_reach_lets_false_pixels_join_by_and_by() -> None:
    """Its pull on background that is still right grows to that of reach; all else is the same."""
    logits, goal = scene("two classes")
    right = (logits.argmax(1) == 0) & (goal.labels == 0)

    def pull(name: Any, progress: float) -> Tensor:
        leaf = logits.clone().requires_grad_()
        (found,) = torch.autograd.grad(named_loss(name, leaf, goal, progress).sum(), leaf)
        return found[:, 1]

    for progress, share in ((0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.9, 1.0)):
        whole = pull("reach", progress)
        torch.testing.assert_close(
            pull("scored-reach", progress), whole.where(~right, share * whole)
        )


@pytest.mark.parametrize("name", NAMES)
def test_structures_are_seen_apart(name: Any) -> None:
    """One structure alone has the loss of a two-class case; of several, they share the weight."""
    logits, goal = scene("structures")
    single = goal.labels[:, :1]
    together = named_loss(name, logits[:, :, :1], replace(goal, labels=single, truth=single))
    flat = replace(goal, labels=single[:, 0], truth=single[:, 0], structures=False)
    torch.testing.assert_close(together, named_loss(name, logits[:, :, 0], flat))
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(named_loss(name, leaf, goal).sum(), leaf)
    assert (gradient.flatten(3).abs().sum((0, 1, 3)) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_target_without_foreground_counts_every_pixel(name: Any) -> None:
    logits, goal = scene("four classes")
    empty = goal.labels.where(goal.labels == IGNORE, 0)
    goal = replace(goal, labels=empty, targeted=True)
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(named_loss(name, leaf, goal).sum(), leaf)
    wanted = (empty == 0) & (logits.argmax(1) != 0)
    assert (gradient[:, 0][wanted] < 0).all(), "down the loss is up in the target's logit"


def test_a_soft_stop_pulls_fully_before_the_border_half_on_it_and_no_more_far_behind() -> None:
    z = torch.tensor([-4.0, -4.0, 0.0, 4.0]).double().view(1, 1, 2, 2)  # of the wrong class
    logits = torch.cat([z, torch.zeros_like(z)], 1).requires_grad_()
    labels = torch.ones(1, 2, 2).long()
    loss = score_losses.soft_hinge(logits, Goal(labels, labels))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    pull = [1 / (1 + math.exp(m / 0.3)) for m in (-4.0, -4.0, 0.0, 4.0)]
    assert gradient[0, 0].flatten().tolist() == pytest.approx(pull)
    assert not losses.named_loss(
        "scored-hinge", logits[..., 1:, 1:], Goal(*[labels[:, 1:, 1:]] * 2)
    )
