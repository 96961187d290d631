"""What holds for every attack on every network, image and mask."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Curved

from segbench.api import BringsBudgets, Budget, Case, MinimumNorm
from segbench.engine.network import Network
from segbench.errors import UserError
from segbench.evaluation.batch import collate
from segbench.evaluation.grid import Cell
from segbench.evaluation.score import evaluate_batch
from segbench.metrics import regions
from segbench.plugins.attack import NamedAttack, load_attack

pytestmark = pytest.mark.usefixtures("brief_suites")

IGNORE = 255
LED_BY_SCORE = ("apgd", "sea", "standard", "rse")


@pytest.fixture(scope="module")
def prepared(prepared: Any) -> Callable[..., Network]:
    """A network by its class and what that takes, made ready once for all attacks on it."""
    made: dict[Any, Network] = {}

    def make(kind: Any, images: Tensor, classes: int = 2, *given: int) -> Network:
        key = (kind, given, classes, images.shape[1:], images[:2].numpy().tobytes())
        if key not in made:
            made[key] = prepared(kind(*given), images, classes)
        return made[key]

    return make


def scene(*shape: int, classes: int = 2) -> tuple[Tensor, Tensor]:
    """Random images (B, C, *spatial) and labels (B, *spatial) of every class."""
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(shape, generator=generator)
    return images, torch.randint(0, classes, (shape[0], *shape[2:]), generator=generator)


def attacked_labels(network: Network, attack: NamedAttack, images: Tensor, truth: Tensor) -> Tensor:
    """What the attack's loss moves away from."""
    if getattr(attack.attack, "labels", "truth") == "prediction":
        return network.as_labels(network.exact_logits(images))
    return truth


def losses(network: Network, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy per case, in double."""
    pixels = nn.functional.cross_entropy(
        network.exact_logits(images).double(), labels, ignore_index=IGNORE, reduction="none"
    )
    return pixels.flatten(1).sum(1)


def is_worst(network: Network, found: Tensor, truth: Tensor) -> Tensor:
    """Which cases have not one pixel right: an attack may leave those as they are."""
    return (network.as_labels(network.exact_logits(found)) != truth).flatten(1).all(1)


def scores(network: Network, images: Tensor, labels: Tensor) -> Tensor:
    """Each case's Jaccard with the labels."""
    predicted = network.as_labels(network.exact_logits(images))
    return regions.case_score(network.score(predicted, labels, IGNORE))


def gone_far(
    network: Network, attack: NamedAttack, found: Tensor, images: Tensor, truth: Tensor
) -> Tensor:
    """Which cases are worse than clean by what the attack goes by.

    That is the loss; or, where masked losses leave some pixels alone, the score first.
    """
    if isinstance(attack.attack, MinimumNorm):
        below = scores(network, found, truth) < attack.attack.budgets[0].eps
        return below | (found == images).flatten(1).all(1)
    labels = attacked_labels(network, attack, images, truth)
    risen = losses(network, found, labels) > losses(network, images, labels)
    if attack.plugin.name in LED_BY_SCORE:
        risen |= scores(network, found, truth) < scores(network, images, truth)
    # A search may find nothing worse in few queries; what keeps the best may keep the clean image,
    # and so may SEA with the released losses, which see but what is still right, by class.
    keeps_clean = {getattr(attack.attack, key, None) for key in ("keep", "preset")}
    # A single climb, which is all that the quick suite makes, may end no lower than it began.
    few = attack.attack.budget_kind == "severity" or getattr(attack.attack, "cost", "") == "quick"
    if attack.attack.needs == "scores" or few or not keeps_clean.isdisjoint({"best", "eccv2024"}):
        risen |= scores(network, found, truth) <= scores(network, images, truth)
    return risen


def asks(attack: NamedAttack) -> bool:
    """Whether it is led by the network's answers; random noise is not, and owes no progress."""
    return attack.attack.needs != "labels"


def refuses(attack: NamedAttack, shape: tuple[int, ...]) -> bool:
    """Whether it says that it is not for images of that shape."""
    if attack.plugin.name == "art/SquareAttack":
        return len(shape) == 5 or min(shape[2:]) == 1
    return attack.plugin.name == "corruption/jpeg" and len(shape) == 5


def assert_in_ball_and_box(attack: NamedAttack, found: Tensor, images: Tensor, eps: float) -> None:
    delta = (found.double() - images.double()).flatten(1)
    order = {"linf": torch.inf, "l2": 2, "l1": 1}.get(attack.attack.budget_kind)
    if order is not None:  # others have no ball
        distance = torch.linalg.vector_norm(delta, ord=order, dim=1)
        assert (distance <= eps * (1 + 1e-6) + 2**-24 * delta.shape[1] ** 0.5).all(), distance
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.dtype == torch.float32


SCENES = {
    "two classes": ((2, 1, 8, 8), 2),
    "four classes, three channels": ((2, 3, 8, 8), 4),
    "three dimensions": ((2, 1, 4, 5, 6), 3),
    "one pixel wide": ((2, 2, 9, 1), 2),
    "one pixel high": ((2, 2, 1, 9), 2),
    "a single pixel": ((1, 1, 1, 1), 2),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_result_lies_in_ball_and_box_and_raises_the_loss(
    attack: NamedAttack, name: str, prepared: Any, run: Any
) -> None:
    shape, classes = SCENES[name]
    images, truth = scene(*shape, classes=classes)
    network = prepared(Curved, images, classes, shape[1], classes, len(shape) - 2)
    if refuses(attack, shape):
        with pytest.raises(UserError, match=f"{attack.plugin.name} is for"):
            run(network, attack, images, truth)
        return
    found = run(network, attack, images, truth).images
    assert_in_ball_and_box(attack, found, images, 8 / 255)
    risen = gone_far(network, attack, found, images, truth)
    assert (risen | is_worst(network, found, truth)).all() or not asks(attack)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("goal", ["truth", "target"])
def test_whatever_is_ascended_the_result_lies_in_ball_and_box(
    other_aim: NamedAttack, goal: str, name: str, prepared: Any, run: Any
) -> None:
    shape, classes = SCENES[name]
    images, truth = scene(*shape, classes=classes)
    network = prepared(Curved, images, classes, shape[1], classes, len(shape) - 2)
    led = {"target": (truth + 1) % classes, "targeted": True} if goal == "target" else {}
    found = run(network, other_aim, images, truth, **led).images
    assert_in_ball_and_box(other_aim, found, images, 8 / 255)
    assert not torch.equal(found, images)


@pytest.mark.parametrize(("gray", "mask"), [(None, 0), (None, 1), (0.0, 1), (1.0, 0)])
def test_no_loss_breaks_on_constant_images_and_empty_or_full_masks(
    other_aim: NamedAttack, gray: float | None, mask: int, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8)
    images = images if gray is None else torch.full_like(images, gray)
    found = run(prepared(Curved, images), other_aim, images, torch.full_like(truth, mask)).images
    assert_in_ball_and_box(other_aim, found, images, 8 / 255)


@pytest.mark.parametrize(("gray", "mask"), [(None, 0), (None, 1), (0.0, 0), (0.5, 1), (1.0, 1)])
def test_constant_images_and_empty_or_full_masks_are_attacked_like_any(
    attack: NamedAttack, gray: float | None, mask: int, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8)
    images = images if gray is None else torch.full_like(images, gray)
    network = prepared(Curved, images)
    truth = torch.full_like(truth, mask)
    found = run(network, attack, images, truth).images
    assert_in_ball_and_box(attack, found, images, 8 / 255)
    labels = attacked_labels(network, attack, images, truth)
    # The box may leave a black image no way to go.
    not_fallen = losses(network, found, labels) >= losses(network, images, labels)
    not_fallen |= gone_far(network, attack, found, images, truth)
    assert (not_fallen | is_worst(network, found, truth)).all() or not asks(attack)


def test_inputs_are_left_untouched(any_attack: NamedAttack, prepared: Any, run: Any) -> None:
    images, truth = scene(2, 1, 8, 8)
    network = prepared(Curved, images)
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    copies = images.clone(), truth.clone()
    run(network, any_attack, images, truth)
    assert torch.equal(images, copies[0])
    assert torch.equal(truth, copies[1])
    assert all(torch.equal(before[n], v) for n, v in network.module.state_dict().items())
    assert all(p.grad is None for p in network.module.parameters())


def test_a_budget_of_zero_is_the_identity(any_attack: NamedAttack, prepared: Any, run: Any) -> None:
    if isinstance(any_attack.attack, BringsBudgets):
        return  # it has none
    images, truth = scene(2, 1, 8, 8)
    images[0, 0, 0, :4] = torch.tensor([0.0, 1.0, 2.0**-149, 1 - 2.0**-24])
    found = run(prepared(Curved, images), any_attack, images, truth, eps="0").images
    assert torch.equal(found, images)


def test_the_global_random_state_changes_nothing(
    any_attack: NamedAttack, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8)
    network = prepared(Curved, images)
    torch.manual_seed(1)
    first = run(network, any_attack, images, truth)
    torch.manual_seed(2)
    second = run(network, any_attack, images, truth)
    assert torch.equal(first.images, second.images)
    assert (first.forwards, first.backwards) == (second.forwards, second.backwards)


def test_batch_mates_and_their_order_change_nothing(
    any_attack: NamedAttack, prepared: Any, run: Any
) -> None:
    images, truth = scene(3, 1, 8, 8)
    network = prepared(Curved, images)
    together = run(network, any_attack, images, truth, names="abc")
    backwards = run(network, any_attack, images.flip(0), truth.flip(0), names="cba")
    torch.testing.assert_close(backwards.images.flip(0), together.images, atol=1e-6, rtol=0)
    for b, name in enumerate("abc"):
        alone = run(network, any_attack, images[b : b + 1], truth[b : b + 1], names=name)
        torch.testing.assert_close(alone.images[0], together.images[b], atol=1e-6, rtol=0)
        assert alone.forwards == [together.forwards[b]] == [backwards.forwards[-1 - b]]
        assert alone.backwards == [together.backwards[b]] == [backwards.backwards[-1 - b]]


class Garbled(Curved):
    """The same network, but for wild logits in the left half."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        wild = 9 * logits.flip(1) + 100 * images.sum(1, keepdim=True)
        left = torch.arange(images.shape[-1]) < images.shape[-1] // 2
        return torch.where(left, wild, logits)


def test_ignored_pixels_contribute_nothing(
    any_attack: NamedAttack, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8)
    truth[..., :4] = IGNORE
    plain, garbled = prepared(Curved, images), prepared(Garbled, images)
    found = run(plain, any_attack, images, truth, ignore_index=IGNORE).images
    other = run(garbled, any_attack, images, truth, ignore_index=IGNORE).images
    # This network gives way too little for a case to fall; test_minimum_norm.py has one that does.
    few = isinstance(any_attack.attack, MinimumNorm) or any_attack.attack.budget_kind == "severity"
    assert not torch.equal(found, images) or few
    torch.testing.assert_close(other, found, atol=1e-6, rtol=0)


class Sigmoid(nn.Module):
    """The one-channel network z."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Curved(outputs=1)

    def forward(self, images: Tensor) -> Tensor:
        z: Tensor = self.net(images)
        return z


class ZeroAndZ(Sigmoid):
    """The two-class network [0, z]."""

    def forward(self, images: Tensor) -> Tensor:
        z = super().forward(images)
        return torch.cat([torch.zeros_like(z), z], 1)


def test_one_sigmoid_is_attacked_as_the_two_class_network(
    any_attack: NamedAttack, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8)
    sigmoid, both = prepared(Sigmoid, images), prepared(ZeroAndZ, images)
    if getattr(any_attack.attack, "loss_", None) in ("logit-norm", "metric-logit-norm"):
        return  # which says that it is for several classes: test_chosen_losses.py
    found = run(sigmoid, any_attack, images, truth).images
    assert torch.equal(found, run(both, any_attack, images, truth).images)


class Structures(Sigmoid):
    """Three overlapping structures, each its own sigmoid."""

    output = "sigmoid"

    def forward(self, images: Tensor) -> Tensor:
        z = super().forward(images)
        return torch.cat([z, -z, 2 * z], 1)


def test_independent_sigmoids_are_attacked_together(
    attack: NamedAttack, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8, classes=4)
    truth[:, 0] = IGNORE
    network = prepared(Structures, images, 4)
    planes = network.as_truth(truth, IGNORE)
    assert planes.shape == (2, 3, 8, 8)
    found = run(network, attack, images, planes, ignore_index=IGNORE).images
    assert_in_ball_and_box(attack, found, images, 8 / 255)
    risen = gone_far(network, attack, found, images, planes)
    assert risen.all() or not asks(attack)


def test_a_targeted_goal_is_approached(attack: NamedAttack, prepared: Any, run: Any) -> None:
    images, truth = scene(2, 1, 8, 8)
    network = prepared(Curved, images)
    target = 1 - network.as_labels(network.exact_logits(images))
    found = run(network, attack, images, truth, target=target, targeted=True).images
    assert_in_ball_and_box(attack, found, images, 8 / 255)
    fallen = losses(network, found, target) < losses(network, images, target)
    if attack.plugin.name in LED_BY_SCORE:
        fallen |= scores(network, found, target) > scores(network, images, target)
    if isinstance(attack.attack, MinimumNorm):
        below = scores(network, found, target) > 1 - attack.attack.budgets[0].eps
        fallen = below | (found == images).flatten(1).all(1)
    if attack.attack.budget_kind == "severity":
        fallen |= scores(network, found, target) >= scores(network, images, target)
    assert fallen.all() or not asks(attack)


class Overflowing(Curved):
    """Answers NaN on bright images."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.flatten(1).mean(1) > 0.75
        return super().forward(images).masked_fill(bright[:, None, None, None], torch.nan)


def test_a_network_that_answers_nan_is_refused_with_the_case(
    any_attack: NamedAttack, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8)
    network = prepared(Overflowing, images)
    images[1] = 0.9
    if asks(any_attack):
        with pytest.raises(UserError, match=r"net .*case b$"):
            run(network, any_attack, images, truth)
    if isinstance(any_attack.attack, BringsBudgets):
        budget = any_attack.attack.budgets[0]
    else:
        budget = Budget(any_attack.attack.budget_kind, Fraction(8, 255))
    cases = [
        Case(name, name, image.numpy(), mask.numpy(), ("background", "disc"))
        for name, image, mask in zip("ab", images, truth, strict=True)
    ]
    with pytest.raises(UserError, match=r"net .*case b$"):
        evaluate_batch(network, collate(cases, network), Cell(any_attack, budget))


class Kinked(Curved):
    """Finite logits whose gradient at a black pixel is infinite."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + images.sqrt()


def test_a_gradient_that_is_not_finite_is_the_networks_fault(
    attack: NamedAttack, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8)
    network = prepared(Kinked, images)
    images.clamp_min_(0.2)[1] = 0
    if getattr(attack.attack, "random_start", False) or attack.attack.needs != "gradients":
        return  # it starts beside the kink, or never takes a gradient
    with pytest.raises(UserError, match=r"net .*gradient.*case b$"):
        run(network, attack, images, truth)


def test_the_label_is_a_spec_that_makes_the_same_attack(any_attack: NamedAttack) -> None:
    again = load_attack(any_attack.label)
    assert again.attack == any_attack.attack
    assert again.label == any_attack.label
