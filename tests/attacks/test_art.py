"""ART both ways: its attacks on segbench's terms, and segbench's networks on ART's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks import evasion
from art.attacks.attack import EvasionAttack
from art.estimators.classification.classifier import ClassifierMixin
from torch import Tensor, nn
from torch.nn import functional as F
from toys import Dense, dense_scene

from segbench.art import SegmentationEstimator
from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench_attacks.art_attacks import NAMES

README = Path(__file__).resolve().parents[2] / "README.md"
EPS = 8 / 255
SPATIAL = (9, 7)
COMMON = {"eps": EPS, "batch_size": 3}
QUIET = {**COMMON, "verbose": False}


@pytest.fixture
def scene() -> tuple[Dense, Tensor, Tensor]:
    return dense_scene(*SPATIAL)


SAME: dict[str, tuple[str, dict[str, Any]]] = {
    "fgsm": ("FastGradientMethod", COMMON),
    "pgd:steps=7,random_start=false": (
        "ProjectedGradientDescent",
        {**QUIET, "eps_step": EPS / 4, "max_iter": 7},
    ),
    "pgd:steps=7,random_start=false,norm=l2": (
        "ProjectedGradientDescentNumpy",
        {**QUIET, "eps_step": EPS / 4, "max_iter": 7, "norm": 2},
    ),
    "ifgsm:preset=free,steps=7,step_size=0.01": (
        "BasicIterativeMethod",
        {**QUIET, "eps_step": 0.01, "max_iter": 7},
    ),
    "mifgsm:steps=7,rel_step=0.25,decay=0.9": (
        "MomentumIterativeMethod",
        {**QUIET, "eps_step": EPS / 4, "max_iter": 7, "decay": 0.9},
    ),
}


@pytest.mark.parametrize("ours", SAME)
def test_art_finds_the_same_image(
    ours: str, scene: tuple[Dense, Tensor, Tensor], prepared: Any, run: Any
) -> None:
    """ART itself on the public estimator, the attack here, and ART's attack here: one image."""
    net, images, labels = scene
    name, parameters = SAME[ours]
    if "l2" in ours:  # at the box, ART clips first and scales afterwards
        images = 0.2 + 0.6 * images
    estimator = SegmentationEstimator(net, (2, *SPATIAL), 3, device="cpu")
    attack = getattr(evasion, name)(estimator, **parameters)
    theirs = torch.from_numpy(attack.generate(x=images.numpy(), y=labels.numpy()))
    network = prepared(net, images, 3)
    found = run(network, load_attack(ours), images, labels, eps=str(EPS)).images
    assert (found - images).abs().max() > EPS / 10
    torch.testing.assert_close(found, theirs, atol=2e-6, rtol=0)
    own = {k: v for k, v in parameters.items() if k not in ("eps", "batch_size", "verbose")}
    text = ",".join(f"{key}={value}" for key, value in own.items())
    named = load_attack(f"art/{name}:{text}" if text else f"art/{name}")
    through = run(network, named, images, labels, eps=str(EPS)).images
    torch.testing.assert_close(through, theirs, atol=2e-6, rtol=0)


def test_arts_pgd_starts_where_ours_does(
    scene: tuple[Dense, Tensor, Tensor], prepared: Any, run: Any
) -> None:
    net, images, labels = scene
    images = 0.2 + 0.6 * images
    network = prepared(net, images, 3)
    for norm, order in (("linf", "inf"), ("l2", "2")):
        ours = load_attack(f"pgd:steps=5,rel_step=0.25,norm={norm}")
        theirs = load_attack(
            f"art/ProjectedGradientDescent:max_iter=5,eps_step={EPS / 4},norm={order},"
            "num_random_init=1"
        )
        found = run(network, ours, images, labels, eps=str(EPS)).images
        torch.testing.assert_close(
            run(network, theirs, images, labels, eps=str(EPS)).images, found, atol=2e-6, rtol=0
        )


def test_arts_attacks_are_led_to_a_target(
    scene: tuple[Dense, Tensor, Tensor], prepared: Any, run: Any
) -> None:
    net, images, labels = scene
    network = prepared(net, images, 3)
    ours, theirs = (
        run(
            network,
            load_attack(text),
            images,
            labels,
            eps=str(EPS),
            target=0 * labels,
            targeted=True,
        )
        for text in ("fgsm", "art/FastGradientMethod")
    )
    torch.testing.assert_close(theirs.images, ours.images, atol=2e-6, rtol=0)


def test_what_is_asked_is_counted_per_case(
    scene: tuple[Dense, Tensor, Tensor], prepared: Any, run: Any
) -> None:
    net, images, labels = scene
    network = prepared(net, images, 3)
    cost = run(network, load_attack("art/BasicIterativeMethod:max_iter=6"), images, labels)
    assert (cost.forwards, cost.backwards) == ([6] * 3, [6] * 3)
    cost = run(network, load_attack("art/SquareAttack:max_iter=4,p_init=0.3"), images, labels)
    assert cost.backwards == [0] * 3
    assert cost.forwards == [1 + 2 + 3 * 4] * 3  # a prediction, and at each step also two losses


def test_arts_square_raises_the_loss(
    scene: tuple[Dense, Tensor, Tensor], prepared: Any, run: Any
) -> None:
    net, images, labels = scene
    state = np.random.get_state()[1].copy()
    found = run(
        prepared(net, images, 3),
        load_attack("art/SquareAttack:max_iter=40,p_init=0.3"),
        images,
        labels,
    ).images
    assert (np.random.get_state()[1] == state).all()
    with torch.no_grad():
        before, after = (
            F.cross_entropy(net(some), labels, reduction="none").flatten(1).sum(1)
            for some in (images, found)
        )
    assert (after > before).all()


@pytest.mark.parametrize(
    "name",
    [n for n, a in vars(evasion).items() if isinstance(a, type) and issubclass(a, EvasionAttack)],
)
def test_every_attack_of_art_runs_or_is_refused_with_the_reason(name: str) -> None:
    if name in NAMES:
        attack: Any = load_attack(f"art/{name}").attack
        assert attack.budget_kind == "linf"
        return
    with pytest.raises(
        UserError, match=f"ART's {name} cannot run on segmentation: (it|its)"
    ) as refused:
        load_attack(f"art/{name}")
    assert "not written for dense" not in str(refused.value)  # each has a reason of its own


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("art/ProjectedGradientDescnt", r"did you mean 'ProjectedGradientDescent'"),
        ("art/numpy", "ART has no such evasion attack"),
        ("art/FastGradientMethod:eps=0.1", "has no parameter 'eps'"),
        ("art/ProjectedGradientDescent:max_iter=0", "max_iter=0 must be positive"),
        ("art/ProjectedGradientDescent:eps_step=-1", "eps_step=-1.0 must be positive"),
        ("art/MomentumIterativeMethod:decay=-1", "decay=-1.0 must not be negative"),
        ("art/DeepFool", "asks for a classifier"),
        ("art/RobustDPatch", "object detectors"),
    ],
)
def test_what_cannot_be_is_refused(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_attack(text)


def test_squares_that_do_not_fit_are_refused(prepared: Any, run: Any) -> None:
    images = torch.full((1, 1, 40, 6), 0.5)
    network = prepared(nn.Conv2d(1, 2, 1), images)
    with pytest.raises(
        UserError, match="wider than its squares: 14 pixels in 40 x 6; lower p_init"
    ):
        run(network, load_attack("art/SquareAttack"), images, torch.zeros(1, 40, 6).long())


class OneSigmoid(nn.Module):
    """Foreground where the pixel is bright."""

    def forward(self, images: Tensor) -> Tensor:
        return 8 * images[:, :1] - 4


def test_the_estimator_answers_as_the_network_does() -> None:
    images = torch.rand(5, 1, 4, 6, generator=torch.Generator().manual_seed(3))
    labels = (torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(4)) > 0.5).long()
    labels[:, 0] = 255
    estimator = SegmentationEstimator(OneSigmoid(), (1, 4, 6), 2, ignore_index=255, device="cpu")
    assert estimator.input_shape == (1, 4, 6)
    assert not isinstance(estimator, ClassifierMixin)
    assert not hasattr(estimator, "nb_classes")
    z = 8 * images - 4
    logits = estimator.predict(images.numpy(), batch_size=2)
    np.testing.assert_allclose(logits, torch.cat([0 * z, z], 1).numpy())
    valid = labels != 255
    loss = F.binary_cross_entropy_with_logits(
        z[:, 0], labels.clamp(max=1).float(), reduction="none"
    )
    np.testing.assert_allclose(
        estimator.compute_loss(images.numpy(), labels.numpy()),
        (loss * valid).flatten(1).sum(1).numpy(),
        rtol=1e-5,
    )
    gradient = 8 * (z[:, 0].sigmoid() - labels) * valid
    np.testing.assert_allclose(
        estimator.loss_gradient(images.numpy(), labels.numpy())[:, 0], gradient.numpy(), atol=1e-5
    )


def test_the_estimator_wants_the_labels() -> None:
    """Without y, ART hands over the network's own answer; that is refused and not attacked."""
    estimator = SegmentationEstimator(OneSigmoid(), (1, 4, 6), 2, device="cpu")
    images = np.full((2, 1, 4, 6), 0.5, dtype=np.float32)
    with pytest.raises(ValueError, match=r"expected integer labels of shape \(2, 4, 6\)"):
        evasion.FastGradientMethod(estimator, eps=0.1).generate(x=images)


def test_art_itself_refuses_it_to_attacks_on_classifiers() -> None:
    estimator = SegmentationEstimator(OneSigmoid(), (1, 4, 6), 2, device="cpu")
    with pytest.raises(Exception, match="ClassGradientsMixin"):
        evasion.DeepFool(estimator)


def test_the_snippet_of_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(from art\..*?)```", README.read_text(), re.DOTALL)
    images = np.full((2, 1, 16, 16), 0.6, dtype=np.float32)
    given = {"network": OneSigmoid(), "images": images, "labels": np.ones((2, 16, 16), dtype=int)}
    exec(code, given)
    adversarial: Any = given["adversarial"]
    np.testing.assert_allclose(adversarial, images - np.float32(8 / 255), atol=1e-6)
