"""The losses against their definitions, term by term, and their common laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch
from torch import Tensor

from segbench.api import Goal
from segbench.errors import UserError
from segbench_attacks import losses, score_losses

NAMES = get_args(losses.LossName)
IGNORE = -7
SHAPES = {"two classes": (2, 5, 4), "four classes": (4, 5, 4), "3-D": (3, 3, 4, 2)}

Loss = Callable[[Tensor, Goal], Tensor]
ALL: dict[str, Loss] = {
    **{name: partial(losses.named_loss, name, progress=0.6) for name in NAMES},
    "cosine": losses.cosine_weighted_cross_entropy,
    "cosine-distance": losses.cosine_distance,
}
# These look at a case as a whole; test_score_losses.py has their definitions.
OF_CASES = {
    "dice", "weighted-ce", "soft-hinge", "lovasz", "soft-jaccard", "metric-ce", "metric-hinge",
    "metric-jsd", "metric-logit-norm", "reach", "scored-reach",
}  # fmt: skip
LEAVES_SOME = {"scored-hinge", "soft-hinge", "lovasz"}  # pixels that cannot lower the score further


def scene(name: str) -> tuple[Tensor, Tensor]:
    """Logits (2, K, *spatial) and labels of every class, some ignored."""
    classes, *spatial = SHAPES[name]
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(2, classes, *spatial, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, *spatial), generator=generator)
    labels[:, 0] = IGNORE
    return logits, labels


def by_definition(name: str, z: Tensor, y: int, targeted: bool) -> float:
    """One pixel's loss, from its logits (K,), as the papers write it."""
    p = z.exp() / z.exp().sum()
    ce = -math.log(p[y])
    is_open = (int(z.argmax()) == y) != targeted
    one_hot = torch.zeros_like(p)
    one_hot[y] = 1
    middle = (p + one_hot) / 2
    others = [z[k].item() for k in range(len(z)) if k != y]
    cosine = torch.cosine_similarity(p, one_hot, 0).item()
    terms = {
        "ce": ce,
        "masked-ce": ce * is_open,
        "balanced-ce": ce * (0.7 if is_open else 0.3),
        "jsd": sum(
            (torch.special.xlogy(q, q) - torch.special.xlogy(q, middle)).sum().item() / 2
            for q in (p, one_hot)
        ),
        "logit-norm": -(z[y] / z.norm()).item() * is_open,
        "margin": max(others) - z[y].item(),
        "scored-hinge": (max(others) - z[y].item()) * (is_open and (targeted or y > 0)),
        "cosine": ce * (1 - cosine if targeted else cosine),
        "cosine-distance": 1 - torch.cosine_similarity(z, one_hot, 0).item(),
    }
    return terms[name]


def pixels(logits: Tensor, labels: Tensor) -> list[list[tuple[Tensor, int]]]:
    """Per case, the valid pixels' logits and labels."""
    flat, marks = logits.flatten(2), labels.flatten(1)
    return [
        [(z, int(y)) for z, y in zip(flat[b].T, marks[b], strict=True) if y != IGNORE]
        for b in range(len(labels))
    ]


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(set(ALL) - OF_CASES))
def test_a_loss_is_the_sum_of_its_definition_over_valid_pixels(
    name: str, shape: str, targeted: bool
) -> None:
    logits, labels = scene(shape)
    goal = Goal(labels, labels, targeted, IGNORE)
    expected = [
        sum(by_definition(name, z, y, targeted) for z, y in case) for case in pixels(logits, labels)
    ]
    torch.testing.assert_close(ALL[name](logits, goal), torch.tensor(expected).double())


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "weighted"),
    [
        ("masked-ce", "metric-ce"),
        ("margin", "metric-hinge"),
        ("jsd", "metric-jsd"),
        ("logit-norm", "metric-logit-norm"),
    ],
)
def test_the_metric_weight_multiplies_any_loss_of_open_pixels(
    name: str, weighted: str, shape: str, targeted: bool
) -> None:
    logits, labels = scene(shape)
    goal = Goal(labels, labels, targeted, IGNORE)
    weights, expected = score_losses.metric_weight(logits, goal), []
    for b, case in enumerate(pixels(logits, labels)):
        own = weights[b][labels[b] != IGNORE]
        opened = [(int(z.argmax()) == y) != targeted for z, y in case]
        each = [by_definition(name, z, y, targeted) for z, y in case]
        expected.append(sum(w * v for w, v, o in zip(own, each, opened, strict=True) if o))
    torch.testing.assert_close(ALL[weighted](logits, goal), torch.stack(expected))


@pytest.mark.parametrize("shape", SHAPES)
def test_dice_is_the_mean_over_present_classes(shape: str) -> None:
    logits, labels = scene(shape)
    labels[labels == 1] = 0  # class 1 is absent
    expected = []
    for case in pixels(logits, labels):
        p = torch.stack([z.softmax(0) for z, _ in case])
        y = torch.tensor([label for _, label in case])
        values = [
            1 - 2 * p[y == k, k].sum() / (p[:, k].sum() + (y == k).sum())
            for k in y.unique().tolist()
        ]
        expected.append(torch.stack(values).mean() * len(case))
    goal = Goal(labels, labels, ignore_index=IGNORE)
    torch.testing.assert_close(losses.soft_dice(logits, goal), torch.stack(expected))


@pytest.mark.parametrize("name", ALL)
def test_ignored_pixels_and_other_cases_have_no_gradient(name: str) -> None:
    logits, labels = scene("four classes")
    logits.requires_grad_()
    loss = ALL[name](logits, Goal(labels, labels, ignore_index=IGNORE))
    (gradient,) = torch.autograd.grad(loss[0], logits)
    assert gradient[0, :, 1:].any()
    assert not gradient[0, :, 0].any()
    assert not gradient[1].any()


@pytest.mark.parametrize("name", ALL)
def test_a_case_without_valid_pixels_has_no_loss(name: str) -> None:
    logits, labels = scene("two classes")
    logits.requires_grad_()
    nothing = torch.full_like(labels, IGNORE)
    loss = ALL[name](logits, Goal(nothing, nothing, ignore_index=IGNORE))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.equal(loss, torch.zeros_like(loss))
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e4])
def test_faint_and_saturated_logits_give_finite_gradients(name: str, size: float) -> None:
    logits, labels = scene("four classes")
    logits = (size * logits).float().requires_grad_()
    loss = ALL[name](logits, Goal(labels, labels, ignore_index=IGNORE))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(ALL) - {"logit-norm"}))
def test_lowering_a_labels_logit_raises_every_loss_while_no_pixel_flips(name: str) -> None:
    logits, labels = scene("four classes")
    labels = torch.where(labels == IGNORE, IGNORE, logits.argmax(1))
    goal = Goal(labels, labels, ignore_index=IGNORE)
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ALL[name](leaf, goal).sum(), leaf)
    own = gradient.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    assert (own[labels != IGNORE] <= 0).all()
    if name in LEAVES_SOME:
        assert (own[labels > 0] < 0).float().mean() > 0.8
    else:
        assert (own[labels != IGNORE] < 0).all()


def test_the_normalised_logit_refuses_one_sigmoid_and_names_the_way_out() -> None:
    logits, labels = scene("two classes")
    logits[:, 0] = 0
    with pytest.raises(UserError, match="one sigmoid"):
        losses.normalised_logit(logits, Goal(labels, labels, ignore_index=IGNORE))


STAND_INS = {
    "ce": ["masked-ce", "balanced-ce", "weighted-ce", "logit-norm"],
    "soft-jaccard": [
        "scored-hinge",
        "soft-hinge",
        "metric-ce",
        "metric-hinge",
        "metric-jsd",
        "metric-logit-norm",
        "reach",
        "scored-reach",
    ],
}


@pytest.mark.parametrize(
    ("by", "name"), [(by, n) for by, names in STAND_INS.items() for n in names]
)
@pytest.mark.parametrize("targeted", [False, True])
def test_what_falls_as_pixels_flip_is_tracked_by_what_does_not(
    by: str, name: str, targeted: bool
) -> None:
    logits, labels = scene("four classes")
    goal = Goal(labels, labels, targeted, IGNORE)
    expected = ALL[by](logits, goal) * (-1 if targeted else 1)
    assert torch.equal(losses.tracked_loss(name, logits, goal), expected)  # type: ignore[arg-type]
