"""Metrics that are measured where they are asked for: boundaries, and lesions one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segbench.api import Case
from segbench.engine.network import Network
from segbench.evaluation.batch import Batch
from segbench.metrics.boundary import boundary_scores, default_tolerance
from segbench.metrics.lesions import lesion_counts
from segbench.store.rows import ON_REQUEST

_UNASKED = dict.fromkeys((name for names in ON_REQUEST.values() for name in names), float("nan"))


@dataclass(frozen=True)
class Extra:
    """What is asked for; see ``request.Options``."""

    boundary: bool = False
    lesions: float | None = None

    def scores(
        self, network: Network, predicted: Tensor, batch: Batch
    ) -> list[list[dict[str, float]]]:
        """``[case][class]`` -> the columns of ``ON_REQUEST``, NaN where not asked for.

        ``predicted`` as ``Network.as_labels`` gives it.
        """
        masks, truths = network.as_masks(predicted), network.as_masks(batch.truth)
        if not self.boundary and self.lesions is None:
            return [[_UNASKED] * masks.shape[1] for _ in batch.cases]
        valid, found = _known(network, batch).expand_as(truths), []
        for b, case in enumerate(batch.cases):
            one, own, known = masks[b], truths[b], valid[b]
            scores = [dict(_UNASKED) for _ in own]
            if self.boundary:
                _add(scores, surface_scores(one, own, known, case))
            if self.lesions is not None:
                _add(scores, lesion_counts(one, own, known, self.lesions))
            found.append(scores)
        return found


ONLY_REGIONS = Extra()
"""Nothing is asked for beside what all rows have."""


def surface_scores(
    predicted: Tensor, truth: Tensor, valid: Tensor, case: Case
) -> list[dict[str, float]]:
    """hd95 and nsd of each class of a case, and in what unit; masks bool (S, *spatial)."""
    tolerance = nsd_tolerance(case)
    unit = {"nsd_tolerance": tolerance, "pixel_mm": max(case.spacing or (0.0,))}
    measured = boundary_scores(predicted, truth, valid, case.spacing, tolerance)
    return [scores | unit for scores in measured]


def nsd_tolerance(case: Case) -> float:
    """The distance that nsd forgives, in mm, or pixels without spacing: the data set's, or ours."""
    own = case.nsd_tolerance
    return default_tolerance(case.spacing) if own is None else own


def _known(network: Network, batch: Batch) -> Tensor:
    """Where the truth is known: bool (B, S, *spatial), or (B, 1, *spatial) for all classes."""
    ignore = batch.cases[0].ignore_index
    if ignore is None:
        known = torch.ones_like(batch.truth, dtype=torch.bool)
    else:
        known = batch.truth != ignore
    return known if network.structures else known[:, None]


def _add(scores: list[dict[str, float]], more: list[dict[str, float]]) -> None:
    for one, values in zip(scores, more, strict=True):
        one |= values
