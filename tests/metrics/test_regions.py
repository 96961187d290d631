"""Region metrics against MONAI, and the rule for empty labels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.metrics import (
    compute_confusion_matrix_metric,
    compute_dice,
    compute_iou,
    get_confusion_matrix,
)
from monai.networks.utils import one_hot
from torch import Tensor

from segbench.metrics.regions import (
    HIGHER_IS_BETTER,
    RegionScores,
    agree_classes,
    agree_structures,
    case_score,
    confusion,
    score_regions,
    score_structures,
)

IGNORE = 255
NAN = math.nan

ELSEWHERE = {"hd95", "nsd", "lesion_sensitivity", "lesions_false", "lesion_f1"}
"""Metrics that are no counts of pixels."""


def maps(*shape: int, classes: int, seed: int = 0, agreement: float = 0.6) -> tuple[Tensor, Tensor]:
    """Predicted and true labels that agree on about such a share of pixels."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, classes, shape, generator=generator)
    other = torch.randint(0, classes, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < agreement, truth, other), truth


def planes(labels: Tensor, classes: int) -> Tensor:
    hot: Tensor = one_hot(labels[:, None], classes)
    return hot


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("shape", [(4, 9, 7), (2, 5, 6, 4), (3, 1, 8)])
def test_all_scores_are_monais(classes: int, shape: tuple[int, ...]) -> None:
    predicted, truth = maps(*shape, classes=classes)
    truth[0][truth[0] == 1] = 0  # a class that this label lacks
    found = score_regions(predicted, truth, classes)
    pair = planes(predicted, classes), planes(truth, classes)
    matrix = get_confusion_matrix(*pair, include_background=False)
    expected = {
        "jaccard": compute_iou(*pair, include_background=False, ignore_empty=True),
        "dice": compute_dice(*pair, include_background=False, ignore_empty=True),
        "sensitivity": compute_confusion_matrix_metric("sensitivity", matrix),
        "specificity": compute_confusion_matrix_metric("specificity", matrix),
        "accuracy": compute_confusion_matrix_metric("accuracy", matrix),
        "false_positives": matrix[..., 1],
    }
    for name, values in expected.items():
        torch.testing.assert_close(
            getattr(found, name).double(), values.double(), equal_nan=True, rtol=1e-6, atol=1e-6
        )
    assert found.jaccard[0, 0].isnan()


RULES: dict[str, tuple[list[int], list[int], dict[str, float]]] = {
    "found": (
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        {"jaccard": 0.5, "dice": 2 / 3, "sensitivity": 2 / 3, "specificity": 0.5,
         "accuracy": 0.6, "false_positives": 1},
    ),
    "lost": (
        [0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        {"jaccard": 0, "dice": 0, "sensitivity": 0, "specificity": 1,
         "accuracy": 0.6, "false_positives": 0},
    ),
    "elsewhere": (
        [0, 0, 1, 1, 0],
        [1, 1, 0, 0, 0],
        {"jaccard": 0, "dice": 0, "sensitivity": 0, "specificity": 1 / 3,
         "accuracy": 0.2, "false_positives": 2},
    ),
    "absent and not predicted": (
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        {"jaccard": NAN, "dice": NAN, "sensitivity": NAN, "specificity": 1,
         "accuracy": 1, "false_positives": 0},
    ),
    "absent but predicted": (
        [1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0],
        {"jaccard": NAN, "dice": NAN, "sensitivity": NAN, "specificity": 0.6,
         "accuracy": 0.6, "false_positives": 2},
    ),
    "everywhere": (
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        {"jaccard": 1, "dice": 1, "sensitivity": 1, "specificity": 1,
         "accuracy": 1, "false_positives": 0},
    ),
    "everywhere and lost": (
        [0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1],
        {"jaccard": 0, "dice": 0, "sensitivity": 0, "specificity": 1,
         "accuracy": 0, "false_positives": 0},
    ),
    "ignored pixels": (
        [1, 0, 1, 1, 0],
        [1, IGNORE, 0, IGNORE, IGNORE],
        {"jaccard": 0.5, "dice": 2 / 3, "sensitivity": 1, "specificity": 0,
         "accuracy": 0.5, "false_positives": 1},
    ),
    "all that has the class is ignored": (
        [1, 1, 0, 0, 0],
        [IGNORE, IGNORE, 0, 0, 0],
        {"jaccard": NAN, "dice": NAN, "sensitivity": NAN, "specificity": 1,
         "accuracy": 1, "false_positives": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_the_rule_for_empty_labels(name: str) -> None:
    predicted, truth, expected = RULES[name]
    for scores in (
        score_regions(torch.tensor([predicted]), torch.tensor([truth]), 2, IGNORE),
        score_structures(torch.tensor([[predicted]]), torch.tensor([[truth]]), IGNORE),
    ):
        (row,) = scores.rows()[0]
        assert row == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("truth", [[0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 0, IGNORE]])
def test_what_is_nan_depends_on_the_label_alone(truth: list[int]) -> None:
    patterns = set()
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        predicted = torch.randint(0, 3, (1, 4), generator=generator)
        (rows,) = score_regions(predicted, torch.tensor([truth]), 3, IGNORE).rows()
        patterns.add(str([[name for name, v in row.items() if math.isnan(v)] for row in rows]))
    assert len(patterns) == 1


@pytest.mark.parametrize("ignore", [-1, 3, IGNORE])
def test_ignored_pixels_count_nowhere(ignore: int) -> None:
    """The same scores as from the other pixels alone."""
    predicted, truth = maps(1, 40, classes=3)
    keep = torch.arange(40) % 3 > 0
    masked = truth.where(keep, ignore)
    found = score_regions(predicted, masked, 3, ignore).rows()
    assert found == score_regions(predicted[:, keep], truth[:, keep], 3).rows()


def test_structures_are_scored_as_two_classes_each() -> None:
    predicted, truth = maps(3, 4, 6, 5, classes=2)
    truth[0, 0], truth[1, 1] = 0, IGNORE
    truth[2, :, 0] = IGNORE
    found = score_structures(predicted, truth, IGNORE)
    for s in range(4):
        alone = score_regions(predicted[:, s], truth[:, s], 2, IGNORE)
        for name in HIGHER_IS_BETTER.keys() - ELSEWHERE:
            torch.testing.assert_close(
                getattr(found, name)[:, s], getattr(alone, name)[:, 0], equal_nan=True
            )


def test_confusion_counts_every_valid_pixel_once() -> None:
    predicted, truth = maps(3, 8, 8, classes=4)
    truth[1, :2] = IGNORE
    counts = confusion(predicted, truth, 4, IGNORE)
    assert counts.sum((1, 2)).tolist() == [64, 48, 64]
    for t in range(4):
        for p in range(4):
            assert counts[1, t, p] == ((truth[1] == t) & (predicted[1] == p)).sum()


def test_scores_of_a_case_do_not_depend_on_its_batch() -> None:
    predicted, truth = maps(5, 8, 8, classes=3)
    together = score_regions(predicted, truth, 3).rows()
    alone = [score_regions(predicted[b : b + 1], truth[b : b + 1], 3).rows()[0] for b in range(5)]
    assert together == alone


def scores(jaccard: Any, accuracy: Any) -> RegionScores:
    jaccard, accuracy = torch.tensor(jaccard), torch.tensor(accuracy)
    rest = torch.zeros_like(jaccard)
    return RegionScores(jaccard, rest, accuracy, rest, rest, rest)


def test_one_number_per_case_is_the_class_mean_of_what_is_there() -> None:
    found = case_score(
        scores([[0.2, 0.4], [NAN, 0.6], [NAN, NAN]], [[1.0, 1.0], [1.0, 1.0], [0.7, 0.9]])
    )
    torch.testing.assert_close(found, torch.tensor([0.3, 0.6, 0.8]))


def test_a_target_without_foreground_is_reached_where_nothing_is_left_and_nowhere_else() -> None:
    truth = torch.zeros(5, 10, 10, dtype=torch.long)
    truth[:4, 2:4, 2:4], truth[:4, 0, 0] = 1, IGNORE
    predicted = truth.clone().where(truth != IGNORE, 1)
    predicted[1, 2] = 0  # half of it is gone
    predicted[2] = 0
    predicted[3, 2:4, 2:4], predicted[3, 5:7, 5:7] = 0, 2  # another one came
    predicted[4, 9, 9] = 1  # of a case that has none
    target = torch.zeros_like(truth).where(truth != IGNORE, IGNORE)
    found = agree_classes(predicted, target, truth, 3, IGNORE)
    assert found.tolist() == [0, 0.5, 1, 0.5, 0]
    planes = [torch.stack([x == 1, x == 2], 1).long() for x in (predicted, target, truth)]
    held = torch.stack([truth, truth], 1) == IGNORE
    masks = [x.masked_fill(held, IGNORE) if n else x for n, x in enumerate(planes)]
    assert agree_structures(*masks, IGNORE).tolist() == found.tolist()
    assert agree_classes(truth[4:] * 0, target[4:], truth[4:], 3, IGNORE).tolist() == [1]


def test_a_class_that_a_target_lacks_has_to_go_and_another_is_to_be_as_the_target() -> None:
    truth = torch.zeros(1, 4, 4, dtype=torch.long)
    truth[0, 0], truth[0, 2, :2] = 1, 2
    target = truth.where(truth != 2, 0)
    whole, half = truth.clone(), truth.clone()
    half[0, 2, 0] = 0
    for predicted, agreement in ((whole, 0.5), (half, 0.75), (target, 1)):
        assert agree_classes(predicted, target, truth, 3).tolist() == [agreement]
        planes = [torch.stack([x == 1, x == 2], 1).long() for x in (predicted, target, truth)]
        assert agree_structures(*planes).tolist() == [agreement]
    assert agree_classes(half, truth, truth, 3).tolist() == [
        case_score(score_regions(half, truth, 3)).item()
    ]


def test_every_metric_says_whether_higher_is_better() -> None:
    (rows,) = score_regions(*maps(1, 4, classes=2), 2).rows()
    assert rows[0].keys() | ELSEWHERE == HIGHER_IS_BETTER.keys()
