"""What an attack returns is checked where it is first met, and the error names the member."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import Curved

from segbench.api import Context, State
from segbench.errors import ContractError
from segbench.plugins.attack import load_attack

PGD: Any = type(load_attack("pgd").attack)


@dataclass(frozen=True, eq=False)
class Memory(State):
    momentum: Tensor


@dataclass(frozen=True)
class Odd(PGD):
    """PGD, of which one method returns what ``change`` makes of its answer."""

    member: str = ""
    change: Any = None

    def _changed(self, member: str, value: Any) -> Any:
        return self.change(value) if member == self.member else value

    def plan(self, budget: Any) -> Any:
        return self._changed("plan", super().plan(budget))

    def init(self, context: Context) -> Any:
        return self._changed("init", super().init(context))

    def loss(self, logits: Tensor, goal: Any, progress: float) -> Any:
        return self._changed("loss", super().loss(logits, goal, progress))

    def step(self, context: Context, state: State, feedback: Any) -> Any:
        return self._changed("step", super().step(context, state, feedback))


@dataclass(frozen=True)
class OddWhole:
    """Returns what ``change`` makes of the clean images."""

    change: Any
    needs = "labels"
    budget_kind = "linf"

    def run(self, objective: Any, images: Tensor, goal: Any, budget: Any, noise: Any) -> Any:
        return self.change(images)


def images(change: Any) -> Any:
    return lambda state: replace(state, images=change(state.images))


WRONG = [
    ("plan", lambda plan: None, "plan returned a NoneType; expected a segbench.api.Plan"),
    ("plan", lambda plan: replace(plan, steps=-1), "expected no fewer than 0 steps and 1 restart"),
    ("plan", lambda plan: replace(plan, restarts=0), "expected no fewer than 0 steps"),
    ("init", lambda state: state.images, "init returned a Tensor; expected a segbench.api.State"),
    ("init", images(lambda x: x[:1]), r"init returned images of \(1, 1, 12, 12\) float32 on cpu; "
     r"expected \(3, 1, 12, 12\) float32 on cpu"),
    ("init", images(lambda x: x.double()), r"init returned images of .* float64 on cpu; expected"),
    ("init", images(lambda x: x.numpy()), "init returned a ndarray; expected a Tensor"),
    ("init", lambda state: Memory(state.images, torch.zeros(5, 2)),
     r"init returned a State whose momentum is \(5, 2\); expected the case as its first axis"),
    ("loss", lambda loss: loss.mean(), r"loss returned \(\); expected one number per case, \(1,\)"),
    ("loss", lambda loss: loss[:, None], r"loss returned \(1, 1\); expected one number per case"),
    ("step", lambda state: None, "step returned a NoneType; expected a segbench.api.State"),
    ("step", images(lambda x: x[:, 0]), r"step returned images of \(3, 12, 12\)"),
]  # fmt: skip


@pytest.mark.parametrize(("member", "change", "words"), WRONG)
def test_what_a_step_attack_returns_is_named_where_it_is_wrong(
    member: str, change: Any, words: str, prepared: Any, run: Any, textured: Any
) -> None:
    cases, truth = textured(3)
    network = prepared(Curved(), cases)
    run(network, Odd(steps=2), cases, truth)
    with pytest.raises(ContractError, match=words):
        run(network, Odd(steps=2, member=member, change=change), cases, truth)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:2], r"run returned images of \(2, 1, 12, 12\) float32 on cpu; expected \(3,"),
        (lambda x: x[:1], r"run returned images of \(1, 1, 12, 12\)"),  # would be broadcast
        (lambda x: x.double(), "run returned images of .* float64"),
        (lambda x: None, "run returned a NoneType; expected a Tensor"),
    ],
)
def test_what_a_whole_attack_returns_is_named_where_it_is_wrong(
    change: Any, words: str, prepared: Any, run: Any, textured: Any
) -> None:
    cases, truth = textured(3)
    network = prepared(Curved(), cases)
    assert torch.equal(run(network, OddWhole(lambda x: x), cases, truth).images, cases)
    with pytest.raises(ContractError, match=words):
        run(network, OddWhole(change), cases, truth)
