"""Other libraries' attacks, given the same network, start, loss and steps, find the same image."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Dense

from segbench.api import Goal
from segbench.plugins.attack import load_attack

EPS = 8 / 255
SPATIAL = (9, 7)


def classes_of(images: Tensor) -> Tensor:
    """Labels to learn: which channel is brighter around a pixel, if either is bright at all."""
    smooth = nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    return torch.where(smooth.amax(1) < 0.5, 0, 1 + smooth.argmax(1))


@pytest.fixture(scope="module")
def trained() -> tuple[Dense, Tensor, Tensor]:
    """A trained network, images with pixels at the box, and their labels."""
    generator = torch.Generator().manual_seed(9)
    net = Dense()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(150):
        images = torch.rand(16, 2, *SPATIAL, generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), classes_of(images)).backward()
        optimizer.step()
    images = torch.rand(3, 2, *SPATIAL, generator=generator)
    images[:, :, 0], images[:, :, 1] = 0, 1
    with torch.no_grad():
        assert (net(images).argmax(1) == classes_of(images)).float().mean() > 0.7
    return net.eval(), images, classes_of(images)


@pytest.fixture
def scene(trained: tuple[Dense, Tensor, Tensor]) -> tuple[Dense, Tensor, Tensor]:
    """The same, the network a copy: preparing one changes how its weights lie in memory."""
    net, images, labels = trained
    return copy.deepcopy(net), images, labels


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


# What the authors' package answers for these logits (three classes, 2 x 2 pixels) and labels at
# step 3 of 8: the gradient by the logits, class by class. Its SegPGD is a mean over pixels.
LOGITS = ((2.0, -1.0, 0.5, 3.0), (0.0, 1.5, 0.5, -2.0), (-1.0, 0.5, 1.0, 1.0))
LABELS = (0, 2, 1, 0)
RECORDED = {
    ("segpgd", False): (
        (-0.031729, 0.002654, 0.012847, -0.025269),
        (0.023196, 0.032328, -0.034028, 0.001198),
        (0.008533, -0.034982, 0.021181, 0.02407),
    ),
    ("segpgd", True): (
        (-0.007322, 0.011499, 0.05567, -0.005831),
        (0.005353, 0.14009, -0.147455, 0.000277),
        (0.001969, -0.151589, 0.091785, 0.005555),
    ),
    ("cospgd", False): (
        (-0.154606, 0.019488, 0.126173, -0.123273),
        (0.113026, 0.237411, -0.334198, 0.005846),
        (0.04158, -0.256899, 0.208025, 0.117427),
    ),
    ("cospgd", True): (
        (-0.001599, 0.037124, 0.147895, -0.001127),
        (0.001169, 0.452261, -0.391734, 5.3e-05),
        (0.00043, -0.489385, 0.243838, 0.001073),
    ),
}


def recorded(name: str, targeted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (1, 3, 2, 2), labels (1, 2, 2), and the authors' gradient by the logits."""
    gradient = torch.tensor(RECORDED[name, targeted]).view(1, 3, 2, 2)
    logits = torch.tensor(LOGITS).view(1, 3, 2, 2).requires_grad_()
    return logits, torch.tensor(LABELS).view(1, 2, 2), gradient


@pytest.mark.parametrize(("name", "targeted"), RECORDED)
def test_the_published_update_on_recorded_cases(name: str, targeted: bool) -> None:
    logits, labels, theirs = recorded(name, targeted)
    attack: Any = load_attack(name).attack
    loss = attack.loss(logits, Goal(labels, labels, targeted=targeted), 3 / 8)
    (ours,) = torch.autograd.grad(loss.sum(), logits)
    if name == "segpgd":
        ours = ours / labels.numel()
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("name", "targeted"), RECORDED)
def test_what_is_recorded_is_what_the_authors_package_answers(name: str, targeted: bool) -> None:
    cospgd = pytest.importorskip("cospgd", reason="cospgd is not installed")
    logits, labels, gradient = recorded(name, targeted)
    loss = nn.functional.cross_entropy(logits, labels, reduction="none")
    if name == "segpgd":
        loss = cospgd.functions.segpgd_scale(logits, labels, loss, 3, 8, targeted)
    else:
        loss = cospgd.functions.cospgd_scale(logits, labels, loss, 3, targeted)
    theirs = torch.autograd.grad(loss.sum(), logits)[0]
    torch.testing.assert_close(gradient, theirs, atol=2e-6, rtol=0)
