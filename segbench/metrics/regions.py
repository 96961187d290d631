"""Scores of predicted against true labels, per case and class, in one vectorised pass.

The rule for empty labels: where a case's label has the class, ``jaccard``, ``dice`` and
``sensitivity`` are as defined (0 if the prediction lost it); where it lacks it they are NaN at
every budget, while ``specificity``, ``accuracy`` and ``false_positives`` stay defined. NaN depends
on the label alone, so the averaged set never changes along a curve. Background is not scored.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

HIGHER_IS_BETTER = {
    "jaccard": True,
    "dice": True,
    "accuracy": True,
    "sensitivity": True,
    "specificity": True,
    "false_positives": False,
    "hd95": False,
    "nsd": True,
    "lesion_sensitivity": True,
    "lesion_f1": True,
    "lesions_false": False,
}


@dataclass(frozen=True, eq=False)
class RegionScores:
    """Every field (B, S): B cases, S scored classes (the background left out)."""

    jaccard: Tensor
    dice: Tensor
    accuracy: Tensor
    sensitivity: Tensor
    specificity: Tensor
    false_positives: Tensor

    def rows(self) -> list[list[dict[str, float]]]:
        """``rows()[case][class]`` as plain numbers, with one transfer per field."""
        columns = {f.name: getattr(self, f.name).tolist() for f in fields(self)}
        cases, classes = self.jaccard.shape
        return [
            [{name: values[b][s] for name, values in columns.items()} for s in range(classes)]
            for b in range(cases)
        ]


def confusion(predicted: Tensor, truth: Tensor, classes: int, ignore: int | None) -> Tensor:
    """Pixel counts int64 (B, K, K), ``[b, t, p]``: truth t predicted as p, ignored pixels left out.

    ``predicted`` and ``truth`` are integer (B, *spatial) with values in 0..K-1 (or ``ignore``).
    """
    cases = truth.shape[0]
    truth, predicted = truth.reshape(cases, -1), predicted.reshape(cases, -1)
    offset = torch.arange(cases, device=truth.device)[:, None] * (classes * classes)
    cell = torch.add(predicted, truth, alpha=classes).add_(offset)  # without a copy more
    if ignore is not None:
        cell = cell[truth != ignore]
    counts = torch.bincount(cell.reshape(-1), minlength=cases * classes * classes)
    return counts.reshape(cases, classes, classes)


def score_regions(
    predicted: Tensor, truth: Tensor, classes: int, ignore: int | None = None
) -> RegionScores:
    """Scores of K exclusive classes: both masks (B, *spatial); S = K - 1."""
    counts = confusion(predicted, truth, classes, ignore).double()
    hit = counts.diagonal(dim1=1, dim2=2)[:, 1:]
    truths, predictions = counts.sum(2)[:, 1:], counts.sum(1)[:, 1:]
    total = counts.sum((1, 2))[:, None].expand_as(hit)
    return _from_counts(hit, truths, predictions, total)


def score_structures(predicted: Tensor, truth: Tensor, ignore: int | None = None) -> RegionScores:
    """Scores of S independent structures: both masks (B, S, *spatial) of 0 and 1."""
    counts = _counts_of_structures(predicted, truth, ignore)
    truths, predictions = counts[:, :, 1].sum(-1), counts[:, :, :, 1].sum(-1)
    return _from_counts(counts[:, :, 1, 1], truths, predictions, counts.sum((-1, -2)))


def agree_classes(
    predicted: Tensor, target: Tensor, truth: Tensor, classes: int, ignore: int | None = None
) -> Tensor:
    """How far a prediction of K exclusive classes has come to a target, (B,) in [0, 1]; 1: there.

    The class mean of the Jaccard with the target, in which a class that the truth has and the
    target lacks counts by how much of it is gone: of its pixels in truth or prediction the share
    that is not predicted. Of a target without any foreground that share of all foreground, so that
    it is reached where nothing is predicted and nowhere else.

    Args:
        predicted: masks (B, *spatial), as ``target`` and ``truth`` are.
    """
    reached = score_regions(predicted, target, classes, ignore).jaccard
    counts = confusion(predicted, truth, classes, ignore).double()
    hit, truths = counts.diagonal(dim1=1, dim2=2)[:, 1:], counts.sum(2)[:, 1:]
    gone = _gone(hit, truths, counts.sum(1)[:, 1:])
    all_gone = _gone(counts[:, 1:, 1:].sum((1, 2)), truths.sum(1), counts[:, :, 1:].sum((1, 2)))
    return _agreement(reached, gone, all_gone, truths > 0)


def agree_structures(
    predicted: Tensor, target: Tensor, truth: Tensor, ignore: int | None = None
) -> Tensor:
    """The same for S independent structures: masks (B, S, *spatial) of 0 and 1."""
    reached = score_structures(predicted, target, ignore).jaccard
    counts = _counts_of_structures(predicted, truth, ignore)
    of = counts[:, :, 1, 1], counts[:, :, 1].sum(-1), counts[:, :, :, 1].sum(-1)
    all_gone = _gone(*(count.sum(1) for count in of))
    return _agreement(reached, _gone(*of), all_gone, of[1] > 0)


def worst_regions(hit: Tensor, truths: Tensor, possible: Tensor, total: Tensor) -> RegionScores:
    """The lowest scores that answers can have of which only a part is known.

    Every field bounds its score from below (``false_positives`` from above) over all answers that
    agree with what is known: of a class, with T pixels in the label, the answer surely has ``hit``
    of them, and it surely has none outside but, at most, ``possible``. For h' >= hit hits and
    f' <= possible false ones the Jaccard is h' / (T + f'), which falls with fewer hits and with
    more false ones, so that hit / (T + possible) is the least; it is reached where every pixel that
    nothing is known of is answered as wrongly as can be. Dice, accuracy, sensitivity and
    specificity fall with both alike. The least of a mean over classes is at least the mean of
    their leasts.

    Args:
        hit: float64 (B, S), true positives for sure.
        truths: pixels of the class in the label.
        possible: pixels outside it that are not known not to be answered with the class.
        total: all pixels that are scored.
    """
    return _from_counts(hit, truths, hit + possible, total)


def case_score(scores: RegionScores) -> Tensor:
    """One number per case (B,), lower is worse: the class mean of Jaccard.

    A case whose label has no foreground at all has no Jaccard; its accuracy stands in, so that
    "stronger" stays defined for it.
    """
    jaccard = scores.jaccard.nanmean(1)
    return torch.where(jaccard.isnan(), scores.accuracy.mean(1), jaccard)


def _counts_of_structures(predicted: Tensor, truth: Tensor, ignore: int | None) -> Tensor:
    """float64 (B, S, 2, 2): see ``confusion``, of each structure by itself."""
    counts = confusion(predicted.flatten(0, 1), truth.flatten(0, 1), 2, ignore)
    return counts.reshape(*truth.shape[:2], 2, 2).double()


def _gone(hit: Tensor, truths: Tensor, predictions: Tensor) -> Tensor:
    """Of pixels in truth or prediction the share that is not predicted; 1 where there are none."""
    either = truths + predictions - hit
    return torch.where(either == 0, 1.0, (truths - hit) / either)


def _agreement(reached: Tensor, gone: Tensor, all_gone: Tensor, there: Tensor) -> Tensor:
    """(B,) of (B, S), NaN for a class that the target lacks, and of what is gone of the truth.

    Args:
        there: bool (B, S), the classes that the truth has.
    """
    lacking = reached.isnan()
    mean = reached.where(~lacking, gone.masked_fill(~there, torch.nan)).nanmean(1)
    return torch.where(lacking.all(1), all_gone, mean)


def _from_counts(hit: Tensor, truths: Tensor, predictions: Tensor, total: Tensor) -> RegionScores:
    """All float64 (B, S): true positives, label pixels, predicted pixels, all valid pixels."""
    missed, false = truths - hit, predictions - hit
    rest = total - truths  # pixels that are truly not of the class
    absent = truths == 0

    def where_present(values: Tensor) -> Tensor:
        return values.masked_fill(absent, torch.nan)

    return RegionScores(
        jaccard=where_present(hit / (truths + false)),
        dice=where_present(2 * hit / (truths + predictions)),
        accuracy=(total - missed - false) / total,
        sensitivity=where_present(hit / truths),
        specificity=torch.where(rest == 0, 1.0, (rest - false) / rest),
        false_positives=false.long(),
    )
