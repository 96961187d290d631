"""Which cases of a batch a copy of low precision may serve: each is judged by its own gradients.

A network may be honest in bf16 on its probe, and on one case of many sit at the end of a tanh,
where bf16 has no gradient. Attacked with nothing, that case would keep its clean score. So the
gradient of every case is compared with that of fp32: on its clean image, once for each loss, and
wherever the copy has none or one that is not finite. A case that a copy misleads is attacked anew
in fp32, from the start; the case alone decides that, whatever its company, order and budget.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch
from torch import Tensor

from segbench.api import Feedback, Goal, Loss
from segbench.engine import ball
from segbench.engine.fidelity import (
    NO_NUMBER,
    NOT_FINITE,
    Fidelity,
    compare,
    loss_key,
    weighted,
)
from segbench.engine.network import Network, away
from segbench.engine.objective import NetworkObjective
from segbench.engine.subsets import select_goal


class AllMisledError(Exception):
    """There is no case left to go on with: each will be attacked anew."""


class Trust:
    """Where the gradients of each case of a batch came from, and whether they are those of fp32.

    Args:
        network: it is asked more than the attack asks, which is not counted as the attack's.
        clean: images (B, C, *spatial).
        contents: ``Case.sha256`` of each.
        region: bool (B, 1, *spatial), where they may change; None for everywhere.

    Attributes:
        misled: the place of each case that must be attacked anew, and how its gradients compare.
        met: how gradients of low precision compared with fp32's, wherever they were held against
            them.
    """

    def __init__(
        self, network: Network, clean: Tensor, contents: Sequence[str], region: Tensor | None
    ) -> None:
        self.network, self.clean, self.contents, self.region = network, clean, contents, region
        self.misled: dict[int, str] = {}
        self.met: set[Fidelity] = set()
        self._objective = NetworkObjective(network)
        self._names: list[set[str]] = [set() for _ in contents]
        self._checks: list[set[str]] = [set() for _ in contents]
        self._keys = [*contents]
        if region is not None:  # what a gradient is compared on is a part of the question
            self._keys = [f"{own} {_digest(region[n])}" for n, own in enumerate(contents)]

    @property
    def names(self) -> list[str]:
        """Of each case the copies that it was asked of; "" of none."""
        return [" + ".join(sorted(names)) for names in self._names]

    @property
    def checks(self) -> list[str]:
        """Of each case how its gradients compare with those of fp32; "" of fp32."""
        return ["; ".join(sorted(checks - {""})) for checks in self._checks]

    def note(self, places: Sequence[int], loss: Loss, goal: Goal) -> None:
        """That some cases are asked about with that loss; the goal is theirs.

        Raises:
            AllMisledError: none of the batch is to be followed.
        """
        copy = self.network.copies.watchable() if goal.layer else self.network.copies.of(loss, goal)
        said = self.network.copies.used[copy.name]
        checks: Mapping[int, Fidelity] = {}
        if copy.exact is not None and self.network.repeats_draws:
            checks = self._on_clean_images(places, loss, goal)
            self.met |= {*checks.values()}
        elif said:
            said = f"{said} on the first case"
        for place in places:
            self._names[place].add(copy.name)
            self._checks[place].add(str(checks.get(place, said)))
            if place in checks and not checks[place].faithful:
                self.misled.setdefault(place, str(checks[place]))
        self._go_on()

    def examine(
        self, places: Sequence[int], images: Tensor, loss: Loss, goal: Goal, feedback: Feedback
    ) -> Feedback:
        """Hold an answer about images, one of each case, against fp32 where it leads nowhere.

        Returns:
            The answer, 0 where it was not finite: what fp32 will answer is no failure.

        Raises:
            AllMisledError: none of the batch is to be followed.
        """
        if not self.is_low(loss, goal):
            return feedback
        height = ball.flat_norm(feedback.gradient, torch.inf)
        finite = (feedback.loss + height).isfinite()
        lost = (height == 0) & self._movable(places, images) | ~finite
        if not lost.any():
            return feedback
        asked = ball.flat_norm(images, torch.inf).isfinite()
        rows = [n for n in (lost & asked).nonzero()[:, 0].tolist() if places[n] not in self.misled]
        dark = [n for n in rows if finite[n]]
        if len(dark) < len(rows):
            self.misled |= {places[n]: NOT_FINITE for n in rows if n not in dark}
            self.met.add(NO_NUMBER)
        if dark:
            some = torch.tensor(dark, device=images.device)
            exact = self._gradients(images[some], loss, select_goal(goal, some), low=False)
            if self.region is not None:
                exact = exact * self.region[[places[n] for n in dark]]
            found = {
                n: compare(feedback.gradient[n], own) for n, own in zip(dark, exact, strict=True)
            }
            self.misled |= {places[n]: str(f) for n, f in found.items() if not f.faithful}
            self.met |= {*found.values()}
        self._go_on()
        loss_there = feedback.loss.where(finite, 0)
        gradient = feedback.gradient.where(ball.per_case(finite, feedback.gradient), 0)
        return replace(feedback, loss=loss_there, gradient=gradient)

    def answer(self, images: Tensor, loss: Loss, goal: Goal) -> Feedback:
        """The answer about images of all cases: of those that are misled, that of fp32."""
        everyone = range(len(self.contents))
        with suppress(AllMisledError):
            self.note(everyone, loss, goal)
        feedback = self._objective.value_and_grad(images, loss, goal)
        with suppress(AllMisledError):
            self.examine(everyone, images, loss, goal, feedback)
        if not self.misled:
            return feedback
        for place in self.misled:
            self._names[place] = {self.network.copies.reference.name}
        places = torch.tensor(sorted(self.misled), device=images.device)
        exact = self._objective.answer(
            self.network.copies.reference, images[places], loss, select_goal(goal, places)
        )
        return Feedback(
            feedback.loss.index_copy(0, places, exact.loss),
            feedback.gradient.index_copy(0, places, exact.gradient),
            feedback.logits.index_copy(0, places, exact.logits),
        )

    def is_low(self, loss: Loss, goal: Goal) -> bool:
        """Whether answers with that loss are of low precision."""
        return not goal.layer and self.network.copies.of(loss, goal).exact is not None

    def doubt(self, faults: Tensor) -> None:
        """Leave to fp32 the cases (B,) whose answers in low precision were not finite."""
        for place in faults.nonzero()[:, 0].tolist():
            self.misled.setdefault(place, NOT_FINITE)

    def _go_on(self) -> None:
        if len(self.misled) == len(self.contents):
            raise AllMisledError

    def _movable(self, places: Sequence[int], images: Tensor) -> Tensor:
        """Which of the cases (B,) have a pixel that may change."""
        if self.region is None:
            return torch.ones(len(places), dtype=torch.bool, device=images.device)
        return self.region[list(places)].flatten(1).any(1)

    def _on_clean_images(
        self, places: Sequence[int], loss: Loss, goal: Goal
    ) -> dict[int, Fidelity]:
        """How gradients compare on the clean images, whatever the attack leads to.

        Asked once for each case and loss.
        """
        known = self.network.fidelities.setdefault(loss_key(loss), {})
        first = {self._keys[place]: n for n, place in reversed([*enumerate(places)])}
        new = sorted(n for key, n in first.items() if key not in known)
        half = max(1, len(self.contents) // 2)  # in fp32 a case takes twice the memory
        for start in range(0, len(new), half):
            rows = torch.tensor(new[start : start + half], device=self.clean.device)
            some = [places[n] for n in rows.tolist()]
            found = self._compared(some, loss, select_goal(goal, rows))
            known.update({self._keys[p]: f for p, f in zip(some, found, strict=True)})
        return {place: known[self._keys[place]] for place in places}

    def _compared(self, places: Sequence[int], loss: Loss, goal: Goal) -> list[Fidelity]:
        """Of each case, on its clean image, where it may change.

        By a weighted sum of logits where the loss has no gradient there.
        """
        images = self.clean[list(places)]
        aim = away(goal, self._objective.scores(images))
        there = self._changeable(places, images)
        seed = _seed(self._keys[places[0]])  # a network that draws is asked about one case
        exact, ours = (
            self._gradients(images, loss, aim, low, seed) * there for low in (False, True)
        )
        blank = (ball.flat_norm(exact, torch.inf) == 0).nonzero()[:, 0]
        if len(blank):
            some = select_goal(aim, blank)
            for gradients, low in ((exact, False), (ours, True)):
                asked = self._gradients(images[blank], weighted, some, low, seed)
                gradients[blank] = asked * there[blank]
        return [compare(own, its) for own, its in zip(ours, exact, strict=True)]

    def _changeable(self, places: Sequence[int], images: Tensor) -> Tensor:
        """bool (B, 1, *spatial): where a case may change; everywhere where it may nowhere."""
        everywhere = torch.ones_like(images[:, :1], dtype=torch.bool)
        if self.region is None:
            return everywhere
        movable = ball.per_case(self._movable(places, images), images)
        return self.region[list(places)].where(movable, everywhere)

    def _gradients(
        self, images: Tensor, loss: Loss, goal: Goal, low: bool, seed: int | None = None
    ) -> Tensor:
        """(B, C, *spatial), of the copy of low precision or of the fp32 one; nothing is counted.

        ``seed`` is that of what a network draws meanwhile; None to go on where it is.
        """
        copy = self.network.copies.fast if low else self.network.copies.reference
        with same_draws(self.network.device):
            if seed is not None:
                torch.manual_seed(seed)
            return self._objective.answer(copy, images, loss, goal).gradient


def _digest(region: Tensor) -> str:
    return hashlib.sha256(region.cpu().numpy().tobytes()).hexdigest()[:16]


def _seed(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest()[:15], 16)


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """What a network draws within it, it draws once more afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
