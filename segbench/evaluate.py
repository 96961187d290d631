"""Evaluation of a cell: the only place that scores.

Every score comes from the original network in IEEE fp32, on the adversarial image itself, after
that image has been checked, in float64, to lie in its ball and box.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segbench import metrics
from segbench.api import Case, Goal, Targeted
from segbench.boundary import boundary_scores
from segbench.engine import ball
from segbench.engine.loop import Outcome, attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.errors import MachineError, UserError
from segbench.grid import Cell
from segbench.targets import target_labels

_SCORED = -2  # a draw that no attack has seen, and the same at every eps


@dataclass(frozen=True, eq=False)
class Batch:
    """Cases of one shape on the device: images (B, C, *spatial), truth (B, *spatial)."""

    cases: Sequence[Case]
    images: Tensor
    truth: Tensor

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The cases' names."""
        return tuple(case.case_id for case in self.cases)


def collate(cases: Sequence[Case], network: Network) -> Batch:
    """Cases of one shape, stacked on the network's device."""
    images = torch.from_numpy(np.stack([case.image for case in cases]))
    labels = torch.from_numpy(np.stack([case.labels for case in cases])).to(network.device)
    truth = network.as_truth(labels, cases[0].ignore_index)
    if network.device.type == "cuda":
        images = images.pin_memory()
    return Batch(cases, images.to(network.device, non_blocking=True), truth)


def evaluate_batch(
    network: Network, batch: Batch, cell: Cell, dataset_fingerprint: str, *, boundary: bool = False
) -> list[dict[str, Any]]:
    """Attack and score some cases: the varying columns of the store, one row per case and class.

    Raises:
        UserError: the network answers with NaN; the case is named.
        MachineError: the attack left its ball or box, or crashed.
    """
    noise = CaseNoise(cell.seed, dataset_fingerprint, batch.case_ids, network.device)
    if network.one_by_one:
        torch.manual_seed(noise.torch_seed())
    start = time.perf_counter()
    outcome = _attacked(network, batch, cell, noise)
    distances = ball.check(outcome.images, batch.images, cell.budget, cell.label, batch.case_ids)
    linf, l2 = (values.tolist() for values in distances)
    ignore = batch.cases[0].ignore_index
    if network.one_by_one:
        torch.manual_seed(noise.torch_seed(_SCORED))
    logits = NetworkObjective(network).scores(outcome.images)
    _refuse_nan(logits, network, batch)
    predicted = network.as_labels(logits)
    scores = network.score(predicted, batch.truth, ignore).rows()
    agreement = _agreement(network, predicted, _goal(network, batch, cell))
    surfaces = boundary_scores(network, predicted, batch) if boundary else None
    seconds = (time.perf_counter() - start) / len(batch.cases)
    precision = "fp32" if cell.attack is None else network.gradient.name
    rows = []
    for b, case in enumerate(batch.cases):
        constant = {
            "case_id": case.case_id,
            "group_id": case.group_id,
            "target_jaccard": agreement[b],
            "linf": linf[b],
            "l2": l2[b],
            "forwards": outcome.forwards[b] + 1,
            "backwards": outcome.backwards[b],
            "seconds": seconds,
            "precision": precision,
            "device": network.hardware,
            "marks": " ".join(network.marks),
        }
        for s, values in enumerate(scores[b]):
            surface = surfaces[b][s] if surfaces else {"hd95": float("nan"), "nsd": float("nan")}
            name = {"class_id": s + 1, "class_name": case.class_names[s + 1]}
            rows.append({**constant, **name, **values, **surface})
    return rows


def in_batches(
    cases: Sequence[Case], size: int, evaluate: Callable[[Sequence[Case]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """``evaluate`` over consecutive batches of at most ``size`` cases."""
    rows = []
    for start in range(0, len(cases), size):
        rows += evaluate(cases[start : start + size])
    return rows


def _goal(network: Network, batch: Batch, cell: Cell) -> Goal:
    """Away from the truth, or towards the target that the attack names."""
    attack: object = cell.attack.attack if cell.attack else None
    ignore, truth = batch.cases[0].ignore_index, batch.truth
    if not isinstance(attack, Targeted) or attack.target is None:
        return Goal(truth, truth, ignore_index=ignore)
    names = batch.cases[0].class_names
    target = target_labels(attack.target, truth, names, ignore, structures=network.structures)
    return Goal(target, truth, targeted=True, ignore_index=ignore)


def _agreement(network: Network, predicted: Tensor, goal: Goal) -> list[float]:
    """Each case's Jaccard with its target (accuracy where that is empty); NaN without one."""
    if not goal.targeted:
        return [float("nan")] * len(predicted)
    scores = network.score(predicted, goal.labels, goal.ignore_index)
    found: list[float] = metrics.case_score(scores).tolist()
    return found


def _attacked(network: Network, batch: Batch, cell: Cell, noise: CaseNoise) -> Outcome:
    if cell.attack is None:
        nothing = [0] * len(batch.cases)
        return Outcome(batch.images, nothing, nothing)
    goal = _goal(network, batch, cell)
    try:
        return attack_batch(network, cell.attack.attack, batch.images, goal, cell.budget, noise)
    except (UserError, MachineError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise MachineError(
            f"attack {cell.label} of {cell.attack.plugin.distribution} failed on cases "
            f"{batch.case_ids[0]} to {batch.case_ids[-1]}: {type(error).__name__}: {error}"
        ) from error


def _refuse_nan(logits: Tensor, network: Network, batch: Batch) -> None:
    bad = ~ball.flat_norm(logits, torch.inf).isfinite()
    if bad.any():
        case = batch.case_ids[int(bad.nonzero()[0])]
        raise UserError(f"model {network.name} gives NaN or infinite logits on case {case}")
