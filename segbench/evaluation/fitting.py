"""Fitted attacks: trained once on the train split, and kept in the workspace.

<workspace>/adversarial/<key of the fit>/fitted.safetensors

The file is replaced after every epoch, whole, and says how many have been done: a killed training
goes on from there. The order of the cases is drawn from the seed, and a mini-batch is a part of the
attack: in how many pieces it is computed changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from segbench.api import Case, Context, Feedback, FittedAttack, Goal
from segbench.engine import ball
from segbench.engine.fidelity import Fidelity
from segbench.engine.memory import is_out_of_memory
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.returned import check_images, check_loss
from segbench.engine.trust import Trust
from segbench.engine.whole import within
from segbench.errors import MachineError, UserError
from segbench.evaluation.batch import collate
from segbench.evaluation.goals import goal_of
from segbench.evaluation.grid import Cell
from segbench.evaluation.regions import cell_region
from segbench.store.tensors import damaged, load_tensors, save_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from segbench.store.workspace import Workspace

_ORDER = 2**40  # draws of the order of cases, far from those of any attack
_UNKNOWN = "unknown"  # the precision of a fit that was kept before it was told


@dataclass(frozen=True, eq=False)
class Fitted:
    """What an attack has learnt, and by which gradients.

    Attributes:
        tensors: what it learnt, as ``FittedAttack`` names it.
        precisions: the copies that the gradients of any epoch came from, ``bf16 folded``.
        check: how those of low precision compared with fp32's where they did worst in the epoch
            that was last; "" where there were none.
    """

    tensors: Mapping[str, Tensor]
    precisions: frozenset[str] = frozenset()
    check: str = ""

    @property
    def precision(self) -> str:
        """The same copies in one text."""
        return " + ".join(sorted(self.precisions))


def fit_path(workspace: Workspace, key: str) -> Path:
    """Where the fit of that key is kept."""
    return workspace.adversarial / key / "fitted.safetensors"


@dataclass(frozen=True, eq=False)
class Fit:
    """The training of one cell's attack against one network.

    Attributes:
        cases: the training cases, all of one shape.
        size: cases that are computed at once.
        busy: told of every epoch, for whoever waits.
    """

    network: Network
    cell: Cell
    attack: FittedAttack
    cases: Sequence[Case]
    size: int
    busy: Callable[[str], None]

    def run(self, path: Path) -> Fitted:
        """What the training found: read from ``path``, or made and kept there.

        Raises:
            UserError: the network answers with NaN, or the file is damaged.
            MachineError: the disk refused, or the attack crashed or breaks its contract.
        """
        try:
            return self._run(path)
        except (UserError, MachineError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            assert self.cell.attack is not None
            raise MachineError(
                f"attack {self.cell.label} of {self.cell.attack.plugin.distribution} failed while "
                f"it was fitted: {type(error).__name__}: {error}"
            ) from error

    def _run(self, path: Path) -> Fitted:
        done, fitted = _load(path, self.network.device)
        epochs = self.attack.schedule().epochs
        if not done:
            start = self.attack.start(self.cases[0].image.shape, self.cell.budget)
            fitted = Fitted({name: value.to(self.network.device) for name, value in start.items()})
        for epoch in range(done, epochs):
            self.busy(f"fitting on {len(self.cases)} cases, epoch {epoch + 1} of {epochs}")
            fitted = self._one_epoch(fitted, epoch)
            _keep(path, fitted, epoch + 1)
        return fitted

    def _one_epoch(self, fitted: Fitted, epoch: int) -> Fitted:
        schedule = self.attack.schedule()
        order = self._order(epoch)
        steps = math.ceil(len(order) / schedule.batch)
        tensors, told = fitted.tensors, _Told()
        for step in range(steps):
            chosen = order[step * schedule.batch : (step + 1) * schedule.batch]
            progress = (epoch * steps + step) / (schedule.epochs * steps)
            context = self._context([self.cases[n] for n in chosen], epoch)
            if self.network.one_by_one:
                torch.manual_seed(self._noise(context).torch_seed(_ORDER + epoch + 1))
            images = check_images(self.attack.apply(tensors, context), context.images, "apply")
            images = ball.confined(images, context.images, context.region)
            cases = [self.cases[n] for n in chosen]
            feedback = within(self._ask(images, context, progress, cases, told), context.region)
            tensors = self.attack.learn(tensors, context, feedback, progress)
        return Fitted(tensors, fitted.precisions | told.names, told.check)

    def _order(self, epoch: int) -> list[int]:
        """The cases in the order of the epoch."""
        seed = CaseNoise(self.cell.seed, ("order of cases",), torch.device("cpu"))
        draws = seed.uniform(_ORDER + epoch, (len(self.cases),))[0]
        order: list[int] = np.argsort(draws.numpy(), kind="stable").tolist()
        return order

    def _context(self, cases: Sequence[Case], epoch: int) -> Context:
        batch = collate(cases, self.network)
        noise = batch.noise(self.cell.seed)
        goal = goal_of(self.network, batch, self.cell)
        region = cell_region(self.cell, batch)
        return Context(batch.images, goal, self.cell.budget, noise, epoch + 1, region)

    def _noise(self, context: Context) -> CaseNoise:
        assert isinstance(context.noise, CaseNoise)
        return context.noise

    def _ask(
        self,
        images: Tensor,
        context: Context,
        progress: float,
        cases: Sequence[Case],
        told: _Told,
    ) -> Feedback:
        """The network's answer to a mini-batch, ``size`` cases at a time."""
        loss = partial(self.attack.loss, progress=progress)
        contents, parts = self._noise(context).contents, []
        for start in range(0, len(images), self.size):
            at = slice(start, start + self.size)
            self.network.meet(cases[at])
            whole = context.goal
            goal = Goal(whole.labels[at], whole.truth[at], whole.targeted, whole.ignore_index)
            region = None if context.region is None else context.region[at]
            trust = Trust(self.network, context.images[at], contents[at], region)
            parts.append(trust.answer(images[at], loss, goal))
            told.note(trust)
            check_loss(parts[-1].loss, len(images[at]))
        feedback = Feedback(
            torch.cat([part.loss for part in parts]),
            torch.cat([part.gradient for part in parts]),
            torch.cat([part.logits for part in parts]),
        )
        bad = ~(feedback.loss + ball.flat_norm(feedback.gradient, torch.inf)).isfinite()
        if bad.any():
            case = self._noise(context).case_ids[int(bad.nonzero()[0])]
            raise UserError(
                f"model {self.network.name} gives a NaN or infinite loss or gradient on case {case}"
            )
        return feedback


@dataclass
class _Told:
    """What an epoch's answers came from; of their images it keeps nothing."""

    names: set[str] = field(default_factory=set)
    _met: set[Fidelity] = field(default_factory=set)
    _said: set[str] = field(default_factory=set)

    @property
    def check(self) -> str:
        """How gradients compared with fp32's where they did worst; else what is said of them."""
        if self._met:
            return str(min(self._met, key=lambda one: np.nan_to_num(one.cosine, nan=-2)))
        return "; ".join(sorted(self._said))

    def note(self, trust: Trust) -> None:
        """Take in what a mini-batch, or a part of it, was told."""
        self.names |= {*trust.names} - {""}
        self._met |= trust.met
        self._said |= {*trust.checks} - {""}


def _keep(path: Path, fitted: Fitted, epochs: int) -> None:
    told = {"precision": fitted.precision, "gradient_check": fitted.check}
    save_tensors(path, fitted.tensors, {"epochs": str(epochs), **told})


def _load(path: Path, device: torch.device) -> tuple[int, Fitted]:
    """How many epochs have been done, and what they found; 0 and nothing where there is no file."""
    loaded = load_tensors(path)
    if loaded is None:
        return 0, Fitted({})
    tensors, facts = loaded
    if not facts.get("epochs", "").isdecimal():
        raise damaged(path, "it does not hold a fitted attack")
    names = facts.get("precision", _UNKNOWN).split(" + ")
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    fitted = Fitted(moved, frozenset(filter(None, names)), facts.get("gradient_check", ""))
    return int(facts["epochs"]), fitted
