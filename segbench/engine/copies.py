"""Which copy of a network a gradient is taken of: the fast one only where it has the loss's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import nn

from segbench.api import Goal, Loss
from segbench.engine.alone import PerThread
from segbench.engine.features import plain
from segbench.engine.fidelity import Fidelity, loss_key
from segbench.engine.graphs import Graphed
from segbench.engine.prepare import GradientCopy

Comparison = Callable[[GradientCopy, GradientCopy, Loss, Goal], Fidelity]
"""(a copy, the fp32 one that it stands for, loss, goal) -> how their gradients compare."""


@dataclass(eq=False)
class Copies:
    """The copies of a network that gradients are taken of, as their device runs them fastest.

    Attributes:
        fast: the copy to be asked; of lower precision than fp32 if it has an ``exact``.
        device: where they are.
        recordable: whether an accelerator may record what they do, and replay it.
        compare: how gradients by a loss compare, on the first of the network's probe images.
        used: the copies that gradients came from since this was last cleared, by name, each with
            how its gradients compare, on the probe, with those that it stands for.
    """

    fast: GradientCopy
    device: torch.device
    recordable: bool
    compare: Comparison
    used: dict[str, str] = field(default_factory=dict)
    _by_loss: dict[str, tuple[GradientCopy, Fidelity | None]] = field(
        default_factory=dict, repr=False
    )
    _only_exact: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        self.fast = self._recorded(self.fast)

    def of(self, loss: Loss, goal: Goal) -> GradientCopy:
        """The copy to take a loss's gradients of: the fast one only where it has them.

        It is compared, once for each loss, with the fp32 one that it stands for.
        """
        if self._only_exact:
            self.used[self._exact.name] = ""
            return self._exact
        key = loss_key(loss)
        if key not in self._by_loss:
            self._by_loss[key] = self._compared(loss, goal)
        copy, fidelity = self._by_loss[key]
        self.used[copy.name] = "" if fidelity is None else str(fidelity)
        return copy

    @property
    def modules(self) -> list[nn.Module]:
        """The networks that the copies are, each once."""
        distinct = {id(m): m for m in map(plain, (self.fast.module, self.unrecorded.module))}
        return [*distinct.values()]

    @contextmanager
    def in_fp32(self) -> Iterator[None]:
        """Within it gradients are the fp32 copy's, whatever the loss."""
        before, self._only_exact = self._only_exact, True
        try:
            yield
        finally:
            self._only_exact = before

    @property
    def unrecorded(self) -> GradientCopy:
        """The fp32 copy as it is; of one that is fp32 itself, as its device runs it."""
        return self.fast.exact or self.fast

    @property
    def reference(self) -> GradientCopy:
        """The fp32 copy to be asked now and then: without a recording, which holds its memory."""
        return self._exact if self.device.type == "cpu" else self.unrecorded

    def watchable(self) -> GradientCopy:
        """The fp32 copy whose layers can be looked into."""
        self.used[self.unrecorded.name] = ""
        return replace(self.unrecorded, module=plain(self.unrecorded.module))

    @cached_property
    def _exact(self) -> GradientCopy:
        """The fp32 copy, as its device runs it fastest."""
        return self.fast if self.fast.exact is None else self._recorded(self.fast.exact)

    def _compared(self, loss: Loss, goal: Goal) -> tuple[GradientCopy, Fidelity | None]:
        if self.fast.exact is None:
            return self.fast, None
        fidelity = self.compare(self.fast, self.fast.exact, loss, goal)
        return (self.fast if fidelity.faithful else self._exact), fidelity

    def _recorded(self, copy: GradientCopy) -> GradientCopy:
        """A copy as its device runs it fastest."""
        if self.device.type == "cpu":
            return replace(copy, module=PerThread(copy.module))
        if self.device.type == "cuda" and self.recordable:
            return replace(copy, module=Graphed(copy.module))
        return copy
