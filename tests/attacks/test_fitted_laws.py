"""What holds for every attack that is trained first, on every network, image and mask."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import Curved

from segbench.api import BringsBudgets, Budget, Case, FittedAttack
from segbench.engine.network import Network
from segbench.errors import UserError
from segbench.evaluation.batch import collate
from segbench.evaluation.fitting import Fit
from segbench.evaluation.grid import Cell
from segbench.evaluation.score import attack_cases
from segbench.plugins import registry, spec
from segbench.plugins.attack import NamedAttack, load_attack

IGNORE = 255
BRIEF = "epochs=2,batch=2"


def fitted_attacks() -> list[NamedAttack]:
    """Each registered one with its defaults, and with every other choice of one parameter."""
    found = []
    for name in registry.names("attacks"):
        plugin = registry.load("attacks", name)
        if plugin.distribution != "segbench" or not callable(
            getattr(plugin.factory, "learn", None)
        ):
            continue
        given = f"{name}:{BRIEF}" + (",area=0.25" if name == "patch" else "")
        found.append(load_attack(given))
        for key, parameter in spec.parameters(plugin.factory).items():
            if get_origin(parameter.annotation) is Literal:
                choices = set(get_args(parameter.annotation)) - {parameter.default}
                found += [load_attack(f"{given},{key}={choice}") for choice in sorted(choices)]
    return found


ATTACKS = fitted_attacks()
SCENES = {
    "two classes": ((4, 1, 8, 8), 2),
    "four classes, three channels": ((3, 3, 8, 8), 4),
    "three dimensions": ((2, 1, 4, 5, 6), 3),
    "one pixel wide": ((2, 2, 9, 1), 2),
    "one pixel high": ((2, 2, 1, 9), 2),
    "a single pixel": ((1, 1, 1, 1), 2),
    "constant images": ((3, 1, 8, 8), 2),
    "an empty mask": ((3, 1, 8, 8), 2),
    "a full mask": ((3, 1, 8, 8), 2),
    "ignored pixels": ((3, 1, 8, 8), 2),
}


def scene(name: str) -> list[Case]:
    shape, classes = SCENES[name]
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(shape, generator=generator)
    labels = torch.randint(0, classes, (shape[0], *shape[2:]), generator=generator)
    if name == "constant images":
        images = torch.stack([torch.full(shape[1:], gray) for gray in (0.0, 0.5, 1.0)])
    if "mask" in name:
        labels = torch.full_like(labels, int("full" in name))
    if name == "ignored pixels":
        labels[..., :4] = IGNORE
    names = tuple(f"class-{k}" for k in range(classes))
    return [
        Case(f"c{n}", f"c{n}", image.numpy(), label.numpy(), names, ignore_index=IGNORE)
        for n, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def network_for(cases: list[Case], prepared: Any) -> Network:
    image, classes = torch.from_numpy(cases[0].image)[None], len(cases[0].class_names)
    made: Network = prepared(Curved(image.shape[1], classes, image.dim() - 2), image, classes)
    return made


def fit_of(
    attack: NamedAttack, network: Network, cases: list[Case], eps: str = "8/255", size: int = 8
) -> Fit:
    inner = attack.attack
    assert isinstance(inner, FittedAttack)
    own = isinstance(inner, BringsBudgets)
    budget = inner.budgets[0] if own else Budget(inner.budget_kind, Fraction(eps))  # type: ignore[attr-defined]
    return Fit(network, Cell(attack, budget), inner, cases, size, lambda _: None)


def applied(fit: Fit, fitted: Any, cases: list[Case]) -> Tensor:
    """As a cell of a run applies it, its check included."""
    batch = collate(cases, fit.network)
    return attack_cases(fit.network, batch, fit.cell, fitted).images


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("fitted_attack", ATTACKS, ids=lambda attack: attack.label)
def test_images_lie_in_ball_and_box_whatever_the_batch_and_inputs_stay(
    fitted_attack: NamedAttack, name: str, prepared: Any, tmp_path: Path
) -> None:
    cases = scene(name)
    network = network_for(cases, prepared)
    fit = fit_of(fitted_attack, network, cases)
    if name == "a single pixel" and fitted_attack.plugin.name == "patch":
        with pytest.raises(UserError, match="less than a pixel"):
            fit.run(tmp_path / "fit")
        return
    before = [(case.image.copy(), case.labels.copy()) for case in cases]
    fitted = fit.run(tmp_path / "fit")
    found = applied(fit, fitted, cases)  # which refuses what leaves its ball, its area or the box
    assert found.dtype == torch.float32
    for case, (image, labels) in zip(cases, before, strict=True):
        assert np.array_equal(case.image, image)
        assert np.array_equal(case.labels, labels)
    for case, one in zip(cases, found, strict=True):
        assert torch.equal(applied(fit, fitted, [case])[0], one)
    torch.manual_seed(5)
    again = fit_of(fitted_attack, network, cases, size=1).run(tmp_path / "again")
    for key, value in fitted.tensors.items():
        torch.testing.assert_close(again.tensors[key], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fitted_attack", ATTACKS, ids=lambda attack: attack.label)
def test_an_eps_of_zero_is_the_identity(
    fitted_attack: NamedAttack, prepared: Any, tmp_path: Path
) -> None:
    if isinstance(fitted_attack.attack, BringsBudgets):
        return  # it has none
    cases = scene("two classes")
    fit = fit_of(fitted_attack, network_for(cases, prepared), cases, eps="0")
    found = applied(fit, fit.run(tmp_path / "fit"), cases)
    assert np.array_equal(found.numpy(), np.stack([case.image for case in cases]))


@pytest.mark.parametrize("fitted_attack", ATTACKS, ids=lambda attack: attack.label)
def test_a_network_that_answers_nan_is_refused_with_the_case(
    fitted_attack: NamedAttack, prepared: Any, tmp_path: Path
) -> None:
    cases = scene("two classes")
    network = network_for(cases, prepared)
    cases[1] = replace(cases[1], image=np.full_like(cases[1].image, np.nan))
    with pytest.raises(UserError, match=r"NaN .* on case c1"):
        fit_of(fitted_attack, network, cases).run(tmp_path / "fit")
