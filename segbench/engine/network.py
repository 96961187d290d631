"""A network as the engine asks it: the original for decisions, copies of it for gradients."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from traceback import walk_tb
from typing import TypeVar

import torch
from torch import Tensor, nn

from segbench.api import Case, Goal, Loss
from segbench.api.marks import HIDDEN_ROUTES, UNPOOLING, UNREPEATABLE
from segbench.engine.alone import Alone, PerThread, is_tiled, one_thread
from segbench.engine.answers import Answers
from segbench.engine.behaviour import marks_of, paired
from segbench.engine.copies import Copies
from segbench.engine.differences import UNFORETOLD, unforetold_share
from segbench.engine.features import find_layer
from segbench.engine.fidelity import Fidelity, compare_gradients, repeats
from segbench.engine.front import (
    StraightThrough,
    declared_samples,
    has_stand_in,
    with_stand_ins,
)
from segbench.engine.handed import handed, laid_out
from segbench.engine.meeting import meets_cases, tell
from segbench.engine.memory import is_out_of_memory
from segbench.engine.precision import Precision, device_name
from segbench.engine.prepare import GradientCopy, prepare_gradient_copy
from segbench.engine.routing import UNSEEN, unseen_share
from segbench.engine.unpooling import Pooling, Unpooling, count_unpoolings, with_places
from segbench.errors import MachineError, UserError, no_exit

Answer = TypeVar("Answer")


class ChangedNetworkError(UserError):
    """The network is no longer the one that was asked for."""


_ONE_BY_ONE = {"random-network", "stateful-network", "batch-dependent", "eot"}
_UNSTEADY = {"random-network", "stateful-network"}
_DRIFT = 1e-4  # of the largest logit: rounding of kernels that are not deterministic stays below


@dataclass(eq=False)
class Network(Answers):
    """A frozen network in evaluation mode: the original for decisions, copies for gradients.

    Attributes:
        module: the original; every label, decision and score comes from it, in fp32.
        copies: what gradients come from, once it is prepared.
        samples: draws that a gradient is the mean of; more than 1 only where declared.
        meets: whether it must be told of every case, and is asked about one at a time.
        marks: why its rows may not be trusted (``random-network``, ``stateful-network``,
            ``batch-dependent``, ``probabilities``, ``hidden-routes``), and what they were attacked
            through (``bpda``, ``eot:N``, ``unpooling``, ``unrepeatable``).
        unseen: the share of what its answer changes by that no gradient sees; None where it was not
            measured: of a network that draws, or refuses an image with a gradient.
        largest_batch: cases that fit in memory at once, None until a batch did not.
        alone: how cases are computed where none shares a batch, on a CPU; None elsewhere, before it
            is prepared, and of a network that is asked about one case at a time anyway.
        fidelities: how they compare on a case, by the loss, its content and where it may change.
    """

    device: torch.device
    precision: Precision
    copies: Copies = field(init=False)
    samples: int = field(init=False)
    meets: bool = field(init=False)
    marks: tuple[str, ...] = ()
    unseen: float | None = None
    largest_batch: int | None = None
    alone: Alone | None = None
    fidelities: dict[str, dict[str, Fidelity]] = field(default_factory=dict, repr=False)
    _saved: dict[torch.Size, int] = field(default_factory=dict, repr=False)
    _met: Case | None = field(default=None, repr=False)
    _first: Case | None = field(default=None, repr=False)
    _told: list[nn.Module] = field(init=False, repr=False)
    _door: PerThread = field(init=False, repr=False)
    _truth: Tensor = field(init=False, repr=False)
    _probe: Tensor = field(init=False, repr=False)
    _logits: Tensor = field(init=False, repr=False)
    _begun: list[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.module = freeze(self.module.to(self.device))
        self._door = PerThread(self.module)
        self.meets, self._told = meets_cases(self.module), [self.module]
        self.samples = declared_samples(self.module)
        self.hardware = f"{self.device.type} ({device_name(self.device)})"

    def meet(self, cases: Sequence[Case]) -> None:
        """Tell a network that must know more of its cases than their images which comes next."""
        if self.meets:
            (self._met,) = cases
            for copy in self._told:
                tell(copy, self._met)
            self.fidelities.clear()  # the same image under other prompts is another question

    @contextmanager
    def _meeting_first(self) -> Iterator[None]:
        """Of cases that were met, the one of the probe meanwhile."""
        met = self._met
        if self._first is None or met is None:
            yield
            return
        self.meet([self._first])
        yield
        self.meet([met])

    def prepare(self, probe: Tensor, truth: Tensor | None = None) -> None:
        """Make the gradient copy, accepted on the probe images (B, C, *spatial), and look for
        randomness and dependence on batch-mates.

        Args:
            truth: of the probe images, as ``as_truth`` gives it; None for the network's own labels.

        Raises:
            UserError: the network cannot take these images, or answers with another shape.
            MachineError: there is not enough memory for one case, or the network ends the process.
        """
        try:
            probe, logits = self._first_answer(probe)
            smooth = with_places(with_stand_ins(self.module))
            copy = prepare_gradient_copy(smooth, self.precision, probe[:1], self.canonical)
            behaviour = marks_of(self, probe, logits)
            routes = self._routes(smooth, probe[:1], behaviour)
        except (UserError, MachineError):
            raise
        except Exception as error:  # a network may fail in any way
            if not is_out_of_memory(error):
                reason = " ".join(str(error).splitlines()[:1]) or type(error).__name__
                raise MachineError(
                    f"model {self.name} answers one batch of images and fails on another: {reason}"
                ) from error
            raise MachineError(
                f"model {self.name} does not fit in memory, not even with one image of shape "
                f"{tuple(probe.shape[1:])}"
            ) from error
        front = ("bpda",) if has_stand_in(self.module) else ()
        self.marks = (*self.marks, *front, *routes, *behaviour)
        self._probe, self._logits, self._begun = probe, logits, self._parameters()
        self._truth = (self.as_labels(logits) if truth is None else truth)[:1]
        self.fidelities.clear()
        self._first = self._met
        # Not recorded: a stand-in, which may be the host's, and tiles, of which a graph would hold
        # the memory of all.
        recordable = not (self.one_by_one or "bpda" in self.marks or is_tiled(self.module))
        self.copies = Copies(copy, self.device, recordable, self._compared)
        self._told = [self.module, *(m for m in self.copies.modules if m is not self.module)]
        if self.device.type == "cuda" and not self._repeats():
            self.marks = (*self.marks, UNREPEATABLE)
        if self.device.type == "cpu" and not self.one_by_one:
            self.alone = Alone(self._door, paired(probe), self.saved_bytes)

    def _routes(
        self, smooth: nn.Module, image: Tensor, behaviour: Sequence[str]
    ) -> tuple[str, ...]:
        """Marks for what the image decides, by whether gradients know of it."""
        known, unknown = count_unpoolings(smooth, image)
        hidden = unknown > 0
        if self.samples == 1 and _UNSTEADY.isdisjoint(behaviour):

            def ask(moved: Tensor) -> Tensor:
                return self.canonical(smooth(handed(moved)), moved)

            own = (StraightThrough, Pooling, Unpooling)
            seen = [layer for layer in smooth.modules() if isinstance(layer, own)]
            self.unseen = unseen_share(ask, image, seen)
            hidden |= (self.unseen or 0) > UNSEEN
            if not seen and any(isinstance(m, torch.jit.ScriptModule) for m in smooth.modules()):
                hidden |= self._misleads(ask, image)
        return (UNPOOLING,) * (known > 0) + (HIDDEN_ROUTES,) * hidden

    def _misleads(self, ask: Callable[[Tensor], Tensor], image: Tensor) -> bool:
        """Whether gradients of a network that nobody sees into are not those of its answers."""
        try:
            return unforetold_share(self.exact_logits, ask, image) > UNFORETOLD
        except (RuntimeError, MemoryError):
            return False  # it has no gradient, or no memory for it: an attack that needs it says so

    def _repeats(self) -> bool:
        """Whether its gradient is the same twice; not asked of one that is known to be unsteady."""
        if not self.is_steady:
            return True
        try:
            return repeats(self.copies.fast, self._probe[:1], self.canonical)
        except (RuntimeError, MemoryError):
            return True  # it has no gradient, or no memory for it: an attack that needs it says so

    @property
    def is_steady(self) -> bool:
        """Whether it answers the same image alike every time."""
        return self.samples == 1 and _UNSTEADY.isdisjoint(self.marks)

    @property
    def repeats_draws(self) -> bool:
        """Whether it answers alike where it draws alike: all that it draws is declared."""
        return _UNSTEADY.isdisjoint(self.marks)

    def layer_named(self, layer: str) -> str:
        """The full name of a layer of that copy; see ``features.find_layer``."""
        return find_layer(self.copies.watchable().module, layer, self._probe[:1], self.name)

    def _compared(
        self, copy: GradientCopy, exact: GradientCopy, loss: Loss, goal: Goal
    ) -> Fidelity:
        """How a copy's gradients compare with those of another on the first of the probe images."""
        aim = away(replace(goal, truth=self._truth), self._logits[:1])
        with self._meeting_first():
            return compare_gradients(copy, exact, self._probe[:1], self.canonical, loss, aim)

    def _first_answer(self, probe: Tensor) -> tuple[Tensor, Tensor]:
        """The probe images and their logits; the first alone where no two fit in memory."""
        try:
            logits = self.exact_logits(probe)
        except (UserError, MachineError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                if len(probe) == 1:
                    raise
                self.largest_batch = 1
                return self._first_answer(probe[:1])
            reason = " ".join(str(error).splitlines()[:1]) or type(error).__name__
            raise UserError(
                f"model {self.name} does not accept images of shape {tuple(probe.shape)}: {reason}"
            ) from error
        return probe, logits

    @property
    def one_by_one(self) -> bool:
        """Whether cases must not share a batch."""
        kinds = {mark.partition(":")[0] for mark in self.marks}
        return self.meets or not kinds.isdisjoint(_ONE_BY_ONE)

    @torch.no_grad()
    def exact_logits(self, images: Tensor) -> Tensor:
        """Logits of the original network in IEEE fp32."""
        with torch.autocast(images.device.type, enabled=False), no_exit(f"model {self.name}"):
            return self.canonical(self._door(handed(images)), images)

    def saved_bytes(self, image: Tensor) -> int:
        """What a gradient of a case (1, C, *spatial) keeps in memory, measured once per shape.

        More than there is where one does not fit; the first attack will say so.
        """
        shape = image.shape[1:]
        if shape not in self._saved:
            try:
                self._saved[shape] = self.copies.fast.saved_bytes(image)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._saved[shape] = sys.maxsize
        return self._saved[shape]

    def answers(self, ask: Callable[[slice], Answer], images: Tensor, at: range) -> list[Answer]:
        """``ask`` about the cases ``at`` of images (B, C, *spatial): as a batch, or each alone."""
        if self.alone is None:
            return [ask(slice(at.start, at.stop))]
        return self.alone.answers(ask, images, at)

    def steady(self) -> AbstractContextManager[None]:
        """Within it what is computed beside the network rounds the same in every company."""
        return nullcontext() if self.alone is None else one_thread()

    def require_unchanged(self) -> None:
        """Refuse a network that no longer answers its probe as it did, or holds other numbers.

        Raises:
            ChangedNetworkError: it has, so that what it gave since belongs to no one network.
        """
        same = self._parameters() == self._begun
        if same and self.is_steady:
            with self._meeting_first():
                logits = self.exact_logits(self._probe)
            same = bool((logits - self._logits).abs().amax() <= _DRIFT * self._logits.abs().amax())
        if not same:
            raise ChangedNetworkError(
                f"model {self.name} changed while it was attacked: its weights, or its answer to "
                "the first cases, are no longer those it began with, so that its scores would "
                "depend on the order of cases; evaluation must not change a network"
            )

    def raised(self, error: Exception) -> bool:
        """Whether an error came up while it, or a copy of it, was answering."""
        own = (self.module, *self.copies.modules)
        asked = (frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__))
        return any(isinstance(who, PerThread) or any(who is m for m in own) for who in asked)

    def _parameters(self) -> list[float]:
        """What every parameter sums to; an in-place change of one of them shows."""
        sums = [p.detach().double().sum() for p in self.module.parameters() if not p.is_complex()]
        return torch.stack(sums).tolist() if sums else []


def away(goal: Goal, start: Tensor) -> Goal:
    """The same goal led away from the truth, by a network that answered ``start`` to it."""
    weights = goal.weights
    if weights is not None:  # N numbers for each label
        weights = weights.new_ones(len(goal.truth), weights.shape[1], *goal.truth.shape[1:])
    return replace(goal, labels=goal.truth, weights=weights, start=start, targeted=False)


def freeze(module: nn.Module) -> nn.Module:
    """Evaluation mode, no parameter gradients, weights as the device has them fastest."""
    for parameter in module.eval().requires_grad_(False).parameters():
        if parameter.dim() in (4, 5):
            parameter.data = laid_out(parameter.data)
    return module
