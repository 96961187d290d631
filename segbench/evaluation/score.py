"""Evaluation of a cell: the only place that scores.

Every score comes from the original network in IEEE fp32, on the adversarial image itself, after
that image has been checked, in float64, to lie in its ball and box. Attacking and scoring are two
steps, so that images once made can be kept, rounded to their file's levels, or shown to another
network, and scored again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segbench.api import Case, Context, FittedAttack, Goal, MovesPrompts, TransferAttack, WarpAttack
from segbench.data.quantize import round_to_levels
from segbench.engine import ball
from segbench.engine.loop import attack_batch
from segbench.engine.memory import is_out_of_memory
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.engine.outcome import Outcome
from segbench.engine.returned import check_images
from segbench.engine.warp import warped_labels
from segbench.errors import MachineError, UserError
from segbench.evaluation.batch import Batch
from segbench.evaluation.fitting import Fitted
from segbench.evaluation.goals import goal_of
from segbench.evaluation.grid import Cell
from segbench.evaluation.prompted import takes_prompts
from segbench.evaluation.regions import cell_region
from segbench.evaluation.requested import ONLY_REGIONS, Extra
from segbench.store.images import Attacked
from segbench.store.rowfile import CERTIFIED

_UNCERTIFIED = dict.fromkeys(CERTIFIED, float("nan"))
_SCORED = -2  # a draw that no attack has seen, and the same at every eps


def evaluate_batch(
    network: Network, batch: Batch, cell: Cell, extra: Extra = ONLY_REGIONS
) -> list[dict[str, Any]]:
    """Attack and score some cases: the varying columns of the store, one row per case and class.

    Raises:
        UserError, MachineError: see ``attack_cases`` and ``score_cases``.
    """
    attacked = attack_cases(network, batch, cell)
    return score_cases(network, batch, cell, attacked, extra)


def attack_cases(
    network: Network,
    batch: Batch,
    cell: Cell,
    fitted: Fitted | None = None,
) -> Attacked:
    """The adversarial images of some cases, checked to lie in ball, box and region.

    ``fitted`` is what a fitted attack has learnt; see ``fitting.py``.

    Raises:
        UserError: the network answers with NaN; the case is named.
        MachineError: the attack left its ball or box, or crashed.
    """
    noise = batch.noise(cell.seed)
    if network.one_by_one:
        torch.manual_seed(noise.torch_seed())
    network.meet(_prompted(network, batch.cases, cell))
    start = time.perf_counter()
    region = cell_region(cell, batch)
    outcome = _attacked(network, batch, cell, noise, region, fitted)
    ball.check(outcome.images, batch.images, cell.budget, cell.label, batch.case_ids, region)
    seconds = (time.perf_counter() - start) / len(batch.cases)
    return Attacked(
        batch.contents,
        batch.case_ids,
        outcome.images,
        torch.tensor(outcome.forwards),
        torch.tensor(outcome.backwards),
        torch.full((len(batch.cases),), seconds, dtype=torch.float64),
        torch.tensor(outcome.zeros).double() / torch.tensor(outcome.backwards),
        _precisions(network, cell, outcome),
        network.marks,
        tuple(outcome.checks or [""] * len(batch.cases)),
        outcome.displacement,
        _per_case(outcome.late_gain, len(batch.cases)),
        tuple(outcome.members or [""] * len(batch.cases)),
    )


def rounded(batch: Batch, attacked: Attacked) -> Attacked:
    """The same images on the levels of their files; see ``quantize.py``.

    Raises:
        UserError: a case's file has no levels.
    """
    images = attacked.images.cpu().numpy()
    levels = [round_to_levels(own, case) for own, case in zip(images, batch.cases, strict=True)]
    stacked = torch.from_numpy(np.stack(levels)).to(attacked.images.device)
    return replace(attacked, images=stacked)


def score_cases(
    network: Network,
    batch: Batch,
    cell: Cell,
    attacked: Attacked,
    extra: Extra = ONLY_REGIONS,
) -> list[dict[str, Any]]:
    """The rows of cases under images that were made for them, by this network or another.

    With whatever metrics are asked for beside those that all rows have.

    Raises:
        UserError: the network answers with NaN; the case is named.
    """
    _meet(network, batch, cell)
    start, batch = time.perf_counter(), moved_along(network, batch, attacked)
    images = attacked.images.to(network.device)
    distances = ball.distances(images, batch.images)
    ignore = batch.cases[0].ignore_index
    logits = answers(network, images, batch)
    refuse_nan(logits, network, batch)
    predicted = network.as_labels(logits)
    scores = network.score(predicted, batch.truth, ignore).rows()
    agreement = _agreement(network, predicted, goal_of(network, batch, cell))
    further = extra.scores(network, predicted, batch)
    seconds = (time.perf_counter() - start) / len(batch.cases)
    facts = _case_facts(network, batch, attacked, distances, seconds)
    rows = []
    for b, case in enumerate(batch.cases):
        for s, values in enumerate(scores[b]):
            name = {"class_id": s + 1, "class_name": case.class_names[s + 1]}
            rows.append(
                {**facts[b], "target_jaccard": agreement[b], **name, **values, **further[b][s]}
            )
    return rows


def predict_cases(
    network: Network, batch: Batch, cell: Cell, attacked: Tensor | None = None
) -> Tensor:
    """The labels (B, *spatial), or (B, S, *spatial), that scores of images are made of; on the CPU.

    Args:
        attacked: the images; None for those of the cases as they are, with their own prompts.

    Raises:
        UserError: the network answers with NaN; the case is named.
    """
    _meet(network, batch, cell, clean=attacked is None)
    images = batch.images if attacked is None else attacked
    logits = answers(network, images.to(network.device), batch)
    refuse_nan(logits, network, batch)
    few = logits.shape[1] <= torch.iinfo(torch.uint8).max
    return network.as_labels(logits).to(torch.uint8 if few else torch.int16).cpu()


def _meet(network: Network, batch: Batch, cell: Cell, *, clean: bool = False) -> None:
    """Make a network ready for cases that are scored; what it draws, it draws alike every time."""
    network.meet(batch.cases if clean else _prompted(network, batch.cases, cell))
    if network.one_by_one:
        torch.manual_seed(batch.noise(cell.seed).torch_seed(_SCORED))


def _prompted(network: Network, cases: Sequence[Case], cell: Cell) -> Sequence[Case]:
    """The cases with their prompts as the cell's attack moves them.

    Raises:
        UserError: it moves prompts, and the network takes none; or it moves the truth, from which
            the prompts of this network are drawn.
    """
    attack: object = cell.attack.attack if cell.attack else None
    if isinstance(attack, WarpAttack) and takes_prompts(network.module):
        raise UserError(
            f"{cell.label} moves the truth along with the image, and the prompts of model "
            f"{network.name} would stay where the truth was; leave that attack out for it"
        )
    if not isinstance(attack, MovesPrompts):
        return cases
    if not takes_prompts(network.module):
        raise UserError(f"{cell.label} moves prompts, and model {network.name} takes none")
    return [replace(case, prompt_shift=attack.prompt_shift(cell.budget)) for case in cases]


def moved_along(network: Network, batch: Batch, attacked: Attacked) -> Batch:
    """The batch with the truth that its attacked images show: where they were moved, moved too."""
    if attacked.displacement is None:
        return batch
    moves = attacked.displacement.to(network.device)
    return replace(batch, truth=warped_labels(batch.truth, moves))


def answers(network: Network, images: Tensor, batch: Batch) -> Tensor:
    """The logits of the original network, whose failure is told from ours."""
    try:
        return NetworkObjective(network).scores(images)
    except (UserError, MachineError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise MachineError(
            f"model {network.name} failed on {_named(batch.case_ids)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _case_facts(
    network: Network,
    batch: Batch,
    attacked: Attacked,
    distances: tuple[Tensor, Tensor],
    seconds: float,
) -> list[dict[str, Any]]:
    """What is the same for all classes of a case; scoring took ``seconds`` for each."""
    linf, l2 = (values.tolist() for values in distances)
    forwards, backwards = attacked.forwards.tolist(), attacked.backwards.tolist()
    spent, zeros = attacked.seconds.tolist(), attacked.zero_gradients.tolist()
    late = _per_case(attacked.late_gain, len(batch.cases)).tolist()
    members = attacked.members or [""] * len(batch.cases)
    checks = attacked.gradient_checks or [""] * len(batch.cases)
    marks = " ".join(dict.fromkeys((*network.marks, *attacked.marks)))
    return [
        {
            "case_id": case.case_id,
            "case_sha256": case.sha256,
            "group_id": case.group_id,
            "linf": linf[b],
            "l2": l2[b],
            "forwards": forwards[b] + 1,
            "backwards": backwards[b],
            "zero_gradients": zeros[b],
            "late_gain": late[b],
            "member": members[b],
            "seconds": spent[b] + seconds,
            "precision": attacked.precisions[b],
            "gradient_check": checks[b],
            "device": network.hardware,
            "marks": marks,
            **_UNCERTIFIED,
        }
        for b, case in enumerate(batch.cases)
    ]


def _agreement(network: Network, predicted: Tensor, goal: Goal) -> list[float]:
    """How far each case has come to its target, see ``agree_classes``; NaN without one."""
    if not goal.targeted:
        return [float("nan")] * len(predicted)
    found: list[float] = network.agreement(
        predicted, goal.labels, goal.truth, goal.ignore_index
    ).tolist()
    return found


def _attacked(
    network: Network,
    batch: Batch,
    cell: Cell,
    noise: CaseNoise,
    region: Tensor | None,
    fitted: Fitted | None,
) -> Outcome:
    nothing = [0] * len(batch.cases)
    if cell.attack is None:
        return Outcome(batch.images, nothing, nothing, nothing)
    attack = cell.attack.attack
    assert not isinstance(attack, TransferAttack), "its images are made by its source"
    goal = goal_of(network, batch, cell)
    try:
        if isinstance(attack, FittedAttack):
            assert fitted is not None
            context = Context(batch.images, goal, cell.budget, noise, region=region)
            found = check_images(attack.apply(fitted.tensors, context), batch.images, "apply")
            projected = ball.project(found, batch.images, cell.budget, region)
            names, checks = ([own] * len(found) for own in (fitted.precision, fitted.check))
            return Outcome(projected, nothing, nothing, nothing, precisions=names, checks=checks)
        return attack_batch(network, attack, batch.images, goal, cell.budget, noise, region)
    except (UserError, MachineError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        cases, words = _named(batch.case_ids), f"{type(error).__name__}: {error}"
        if network.raised(error):
            raise MachineError(
                f"model {network.name} failed on {cases} as attacked by {cell.label}: {words}"
            ) from error
        raise MachineError(
            f"attack {cell.label} of {cell.attack.plugin.distribution} failed on {cases}: {words}"
        ) from error


def _per_case(numbers: Sequence[float] | Tensor | None, cases: int) -> Tensor:
    """float64 (B,), NaN where an attack has nothing to say."""
    if numbers is None or not len(numbers):
        return torch.full((cases,), torch.nan, dtype=torch.float64)
    return torch.as_tensor(numbers, dtype=torch.float64)


def _precisions(network: Network, cell: Cell, outcome: Outcome) -> tuple[str, ...]:
    """Of the gradients that each image came from; without any, of the answers."""
    cases = len(outcome.images)
    if cell.attack is None or cell.attack.attack.needs != "gradients":
        return ("fp32",) * cases
    return tuple(name or network.copies.fast.name for name in outcome.precisions or [""] * cases)


def refuse_nan(logits: Tensor, network: Network, batch: Batch) -> None:
    """UserError for logits (B, ...) that are not finite; of one case they may be of many draws."""
    bad = ~ball.flat_norm(logits, torch.inf).isfinite()
    if bad.any():
        case = batch.case_ids[int(bad.nonzero()[0]) % len(batch.case_ids)]
        raise UserError(f"model {network.name} gives NaN or infinite logits on case {case}")


def _named(case_ids: Sequence[str]) -> str:
    """The cases of a batch for a sentence."""
    if len(case_ids) == 1:
        return f"case {case_ids[0]}"
    return f"one of the cases {case_ids[0]} to {case_ids[-1]}"
