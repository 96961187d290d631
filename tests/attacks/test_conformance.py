"""Other libraries' attacks, given the same network, start, loss and steps, find the same image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Dense, dense_scene

from segbench.attacks import load_attack

EPS = 8 / 255
SPATIAL = (9, 7)


@pytest.fixture
def scene() -> tuple[Dense, Tensor, Tensor]:
    return dense_scene(*SPATIAL)


TORCHATTACKS: dict[str, tuple[str, Callable[[Any, nn.Module], Any]]] = {
    "FGSM": ("fgsm", lambda ta, net: ta.FGSM(net, eps=EPS)),
    "PGD": (
        "pgd:steps=7,random_start=false",
        lambda ta, net: ta.PGD(net, eps=EPS, alpha=EPS / 4, steps=7, random_start=False),
    ),
    "BIM": (
        "ifgsm:preset=free,steps=7,step_size=0.01",
        lambda ta, net: ta.BIM(net, eps=EPS, alpha=0.01, steps=7),
    ),
    "PGDL2": (
        "pgd:steps=7,random_start=false,norm=l2",
        lambda ta, net: ta.PGDL2(net, eps=EPS, alpha=EPS / 4, steps=7, random_start=False),
    ),
    "MIFGSM": (
        "mifgsm:steps=7,rel_step=0.25,decay=0.9",
        lambda ta, net: ta.MIFGSM(net, eps=EPS, alpha=EPS / 4, steps=7, decay=0.9),
    ),
}


@pytest.mark.parametrize("name", TORCHATTACKS)
def test_torchattacks_finds_the_same_image(
    name: str, scene: tuple[Dense, Tensor, Tensor], prepared: Any, run: Any
) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    net, images, labels = scene
    ours, make = TORCHATTACKS[name]
    theirs = make(torchattacks, net)(images, labels).detach()
    found = run(prepared(net, images, 3), load_attack(ours), images, labels, eps=str(EPS)).images
    assert (found - images).abs().max() > EPS / 10
    torch.testing.assert_close(found, theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["segpgd", "cospgd"])
def test_the_authors_package_finds_the_same_image(
    name: str,
    norm: str,
    targeted: bool,
    scene: tuple[Dense, Tensor, Tensor],
    prepared: Any,
    run: Any,
) -> None:
    cospgd = pytest.importorskip("cospgd", reason="cospgd is not installed")
    net, images, labels = scene
    steps, alpha = 6, EPS / 4
    move = cospgd.functions.step_inf if norm == "linf" else cospgd.functions.step_l2
    theirs = images.clone()
    for t in range(steps):
        theirs.requires_grad_()
        logits = net(theirs)
        loss = nn.functional.cross_entropy(logits, labels, reduction="none")
        if name == "segpgd":
            loss = cospgd.functions.segpgd_scale(logits, labels, loss, t, steps, targeted)
        else:
            loss = cospgd.functions.cospgd_scale(logits, labels, loss, 3, targeted)
        (gradient,) = torch.autograd.grad(loss.sum(), theirs)
        theirs = move(theirs, EPS, gradient, images, alpha, targeted)
    text = f"{name}:steps={steps},random_start=false,norm={norm}"
    network = prepared(net, images, 3)
    found = run(
        network, load_attack(text), images, labels, eps=str(EPS), target=labels, targeted=targeted
    ).images
    assert (found - images).abs().max() > EPS / 10
    torch.testing.assert_close(found, theirs, atol=2e-6, rtol=0)
