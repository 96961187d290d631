"""What answers that look at no image would score, and whether a clean score is any better."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from segbench.api import Case

HINT = (
    "usual causes: pixels on another scale than the network was trained on (--normalize), classes "
    "in another order (values=), another part of its answer (--output), or images and masks that "
    "lie differently"
)
_SLACK = 1e-6


def constant_scores(case: Case) -> tuple[float, ...]:
    """The case's Jaccard under each constant answer: background, then each class everywhere.

    As ``metrics.regions.case_score`` of such a prediction: the mean over the classes that the case
    has, and where it has none, the accuracy. Structures that overlap are all answered at once.
    """
    labels, ignored = case.labels, case.ignore_index
    known = labels if ignored is None else labels[labels != ignored]
    parts = case.regions or tuple((label,) for label in range(1, len(case.class_names)))
    share = dict(enumerate((np.bincount(known.ravel()) / known.size).tolist()))
    shares = [sum(share.get(label, 0.0) for label in part) for part in parts]
    present = sum(one > 0 for one in shares)
    if case.regions is not None:
        return (0.0, sum(shares) / present) if present else (1.0, 0.0)
    if not present:
        return (1.0, *[1 - 1 / len(shares)] * len(shares))
    return (0.0, *(one / present for one in shares))


def answer_names(case: Case) -> Sequence[str]:
    """What the answers of ``constant_scores`` are called."""
    return case.class_names if case.regions is None else ("nothing", "everything")


def no_better(
    clean: Sequence[float], constant: Sequence[Sequence[float]], names: Sequence[str]
) -> str:
    """The constant answer that scores no less than the clean ones do; "" where none does.

    ``clean`` and ``constant`` are of the same cases; ``names`` see ``answer_names``.
    """
    means = [fmean(answer) for answer in zip(*constant, strict=True)]
    best = int(np.argmax(means))
    if fmean(clean) > min(means[best] + _SLACK, 1 - _SLACK):  # all right is right
        return ""
    return (
        f"{names[best]} everywhere (mean Jaccard {means[best]:.3f}; the network has "
        f"{fmean(clean):.3f})"
    )
