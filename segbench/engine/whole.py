"""Whole attacks: they keep their own loop; the engine counts what they ask, case by case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from segbench.api import Feedback, Goal, Loss
from segbench.engine import ball
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.engine.trust import Trust
from segbench.errors import ContractError, UserError


class CaseObjective(NetworkObjective):
    """An ``api.Objective`` that knows whose images it is asked about, one of each case, in order.

    Where there is a region, it answers for the network after the projection onto it: whatever an
    image is elsewhere, the network sees the clean one, and the gradient there is 0.

    Attributes:
        trust: of all cases, where their gradients came from.
        clean: the clean images (B, C, *spatial) of the cases.
        region: bool (B, 1, *spatial), where they may change; None for everywhere.
        costs: int64 (3, all cases): forwards, backwards, and gradients that were zero everywhere.
        members: of all cases, what a suite gave credit for their image; "" until it did.
        late_gain: of all cases, what it said of the climb that found it; NaN until it did.
    """

    def __init__(
        self,
        network: Network,
        noise: CaseNoise,
        clean: Tensor,
        region: Tensor | None = None,
        trust: Trust | None = None,
    ) -> None:
        super().__init__(network)
        self.trust = trust or Trust(network, clean, noise.contents, region)
        self.noise, self.clean, self.region = noise, clean, region
        cases = len(noise.case_ids)
        self.costs = torch.zeros(3, cases, dtype=torch.int64)
        self.members, self.late_gain = [""] * cases, [math.nan] * cases
        self._index = torch.arange(cases)

    def select(self, index: Tensor) -> CaseObjective:
        """The same door for some of the cases (int64, one axis)."""
        region = None if self.region is None else self.region[index]
        chosen = CaseObjective(
            self.network, self.noise.select(index), self.clean[index], region, self.trust
        )
        chosen.costs, chosen.members = self.costs, self.members
        chosen.late_gain = self.late_gain
        chosen._index = self._index[index.cpu()]
        return chosen

    def value_and_grad(self, images: Tensor, loss: Loss, goal: Goal) -> Feedback:
        """Loss per case, gradient, logits; see ``NetworkObjective``.

        Of several images of a case at once they are those of fp32: low precision is judged by
        image and case.

        Raises:
            UserError: loss or gradient is NaN or infinite; the case is named.
            AllMisledError: in low precision alone, of each case.
        """
        places, seen = self._index.tolist(), self._seen(images)
        one_each = len(images) == len(places)  # else nobody knows which is whose
        with nullcontext() if one_each else self.network.copies.in_fp32():
            self.trust.note(places, loss, goal)
            feedback = within(super().value_and_grad(seen, loss, goal), self.region)
        if one_each:
            feedback = self.trust.examine(places, seen, loss, goal, feedback)
        height = ball.flat_norm(feedback.gradient, torch.inf)
        self._note(images, feedback.loss + height, "loss or gradient", backwards=1)
        if one_each:
            nowhere = (height == 0).cpu() & self._movable()
            self.costs[2, self._index] += self.network.samples * nowhere
        return feedback

    def scores(self, images: Tensor) -> Tensor:
        """Logits (B, K, *spatial) of the original network in fp32.

        Raises:
            UserError: they are NaN or infinite; the case is named.
        """
        logits = super().scores(self._seen(images))
        self._note(images, ball.flat_norm(logits, torch.inf), "logits", backwards=0)
        return logits

    def spent(self) -> tuple[list[int], list[int], list[int]]:
        """The costs as lists, per case."""
        forwards, backwards, zeros = self.costs.tolist()
        return forwards, backwards, zeros

    def _movable(self) -> Tensor:
        """Which cases (B,) have a pixel that may change: a gradient of none says nothing."""
        if self.region is None:
            return torch.ones(len(self._index), dtype=torch.bool)
        return self.region.flatten(1).any(1).cpu()

    def credit(self, members: Sequence[str], late_gain: Sequence[float] | None = None) -> None:
        """Say which member of a suite found each case's image (B), and what it gained last."""
        late = [math.nan] * len(members) if late_gain is None else late_gain
        for place, member, gain in zip(self._index.tolist(), members, late, strict=True):
            self.members[place], self.late_gain[place] = member, gain

    def _seen(self, images: Tensor) -> Tensor:
        """What the network gets to see of them.

        Raises:
            ContractError: they are several of each of several cases, in whatever order.
        """
        if self.region is None:
            return images
        if len(images) != len(self.clean) != 1:
            raise ContractError(
                f"the attack asked about {len(images)} images of {len(self.clean)} cases at once, "
                "which where= cannot tell apart; it has to ask objective.select(index) about each"
            )
        return ball.confined(images, self.clean, self.region)

    def _note(self, images: Tensor, answer: Tensor, what: str, *, backwards: int) -> None:
        """Count what was asked, and refuse an answer (B,) that is not finite."""
        passes = self.network.samples if backwards else 1
        # Several images of each case at once are its own; the rest is shared out evenly.
        each = len(images) // len(self._index)
        self.costs[0, self._index] += each * passes
        self.costs[1, self._index] += each * passes * backwards
        bad = ~answer.isfinite() & ball.flat_norm(images, torch.inf).isfinite()
        if bad.any():
            ids = self.noise.case_ids
            case = ids[int(bad.nonzero()[0])] if each == 1 else f"{ids[0]} to {ids[-1]}"
            raise UserError(
                f"model {self.network.name} gives a NaN or infinite {what} on case {case}"
            )


def within(feedback: Feedback, region: Tensor | None) -> Feedback:
    """The answer with a gradient that is 0 outside the region, bool (B, 1, *spatial)."""
    if region is None:
        return feedback
    return replace(feedback, gradient=feedback.gradient * region)
