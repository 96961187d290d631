"""What answers without an image score: as the metrics say; a network no better is told of."""

import numpy as np
import pytest
import torch

from segbench.api import Case
from segbench.evaluation.constants import answer_names, constant_scores, no_better
from segbench.metrics import regions

RANDOM = np.random.default_rng(0)
NAMES = ("background", "a", "b", "c")


def case(labels: np.ndarray, **facts: object) -> Case:
    image = np.zeros((1, *labels.shape), np.float32)
    return Case("x", "x", image, labels.astype(np.int64), NAMES, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [1, 3, 4])
@pytest.mark.parametrize("ignore", [None, -100])
def test_they_score_what_the_metrics_say(top: int, ignore: int | None) -> None:
    labels = RANDOM.integers(0, top, (9, 7))
    if ignore is not None:
        labels[:2] = ignore
    truth = torch.from_numpy(labels)[None]
    right = [
        float(
            regions.case_score(regions.score_regions(torch.full_like(truth, k), truth, 4, ignore))
        )
        for k in range(4)
    ]
    assert constant_scores(case(labels, ignore_index=ignore)) == pytest.approx(right)


def test_structures_that_overlap_are_answered_all_at_once() -> None:
    labels, parts = RANDOM.integers(0, 4, (9, 7)), ((1, 2, 3), (2,), (3,))
    planes = torch.from_numpy(np.stack([np.isin(labels, part) for part in parts]))[None].long()
    right = [
        float(regions.case_score(regions.score_structures(torch.full_like(planes, k), planes)))
        for k in (0, 1)
    ]
    assert constant_scores(case(labels, regions=parts)) == pytest.approx(right)


def test_a_network_is_better_or_it_is_said_what_it_is_not_better_than() -> None:
    labels = np.zeros((4, 4))
    labels[:3] = 1
    one = case(labels)
    constants, names = [constant_scores(one)], answer_names(one)
    assert no_better([0.8], constants, names) == ""
    assert no_better([0.7], constants, names).startswith(
        "a everywhere (mean Jaccard 0.750; the net"
    )
    assert no_better([0.0], [(0.0, 0.0)], names).startswith("background everywhere")
    assert no_better([1.0], [(1.0, 0.5)], names) == ""  # of cases without foreground, all right
