"""APGD in L1: sparse steps whose sparsity adapts (Croce & Hein, ICML 2021, arXiv 2103.01208).

One run in one ball. The paper also goes through balls of 3 and 2 eps first; without that, PGD in L1
may find the worse image at some budgets: run both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segbench.api import Budget, Context
from segbench.engine.ball import per_case, project
from segbench_attacks.apgd_search import APGDState, begin

FIRST_SHARE = 0.2  # of the values, that the first steps move
THINNER = 1.5  # a step moves that many times fewer values than the best image differs in
SPARSER = 0.95  # the best image differs in fewer than this share of what it did: long steps again
SHORTER = 1.5  # otherwise steps are divided by this
SHORTEST = 0.1  # of eps
ROUND = torch.floor  # the public code rounds up, and so never comes below two values
DUST = 1e-3  # of the largest change: what the rounding of a projection may leave of a value


@dataclass(frozen=True, eq=False)
class SparseState(APGDState):
    """Also how many values (B,) a step moves, and in how many the best differed at the last look.

    Of the fields of APGDState it has no use for ``rises``, ``halved`` and ``best_at_check``.
    """

    moved: Tensor
    spread: Tensor


def begin_sparse(start: Tensor, budget: Budget, steps: int) -> SparseState:
    """A run of so many steps from ``start`` (B, C, *spatial), with steps of eps."""
    state = begin(start, budget, steps)
    values = torch.full_like(state.length, start[0].numel())
    fields = vars(state) | {"length": state.length / 2, "interval": max(int(0.04 * steps), 1)}
    return SparseState(**fields, moved=FIRST_SHARE * values, spread=values)


def thinned(state: SparseState, gradient: Tensor, context: Context) -> tuple[SparseState, Tensor]:
    """A checkpoint: where the best image has grown sparser, back to it and steps of eps again;
    elsewhere shorter steps. Either way they are as sparse as the best image allows.
    """
    eps, spread = context.budget.eps, _spread(state.best, context.images).to(state.length)
    sparser = spread < SPARSER * state.spread
    wide = per_case(sparser, state.images)
    checked = replace(
        state,
        images=torch.where(wide, state.best, state.images),
        length=torch.where(sparser, eps, (state.length / SHORTER).clamp_min(SHORTEST * eps)),
        moved=spread / THINNER,
        spread=spread,
        since=0,
    )
    return checked, torch.where(wide, state.best_gradient, gradient)


def move_sparse(context: Context, state: SparseState, gradient: Tensor) -> SparseState:
    """One step of the L1 length ``state.length``, shared equally by the largest gradients.

    Those that the box stops have no part in it; in the public code they have, which leaves images
    of many pixels at 0 or 1 where they are.
    """
    sign = gradient.sign()
    sign = sign.where(torch.where(sign > 0, state.images < 1, state.images > 0), 0)
    size = (gradient * sign).flatten(1)
    count = ROUND(state.moved).long().clamp(1, size.shape[1])
    least = size.sort(dim=1, descending=True).values.gather(1, count[:, None] - 1)
    sign = sign * (size >= least).view_as(sign)
    part = state.length / sign.flatten(1).abs().sum(1).clamp_min(1)
    aim = project(state.images + per_case(part, sign) * sign, context.images, context.budget)
    return replace(state, images=aim, previous=state.images, taken=state.taken + 1)


def _spread(images: Tensor, clean: Tensor) -> Tensor:
    """In how many values (B,) the images differ; what a projection leaves of others is dust."""
    delta = (images - clean).abs().flatten(1)
    return (delta > DUST * delta.amax(1, keepdim=True)).sum(1)
