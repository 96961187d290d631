"""The worst plausible change: within its limits, and as bad as a closed form says it can be."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Curved

from segbench.api import Budget, Goal
from segbench.engine.loop import attack_batch
from segbench.engine.noise import CaseNoise
from segbench.engine.outcome import Outcome
from segbench.engine.warp import warped, warped_labels
from segbench.errors import ContractError
from segbench.metrics import regions
from segbench.plugins.attack import load_attack
from segbench_attacks.geometry import Moved, _soft, deformation, pose, soft_jaccard
from segbench_attacks.intensity import BiasField, Contrast, Gamma, contrast, gamma
from segbench_attacks.worst import CHANGES

SEVERITIES = (1, 3, 5)


class Threshold(nn.Module):
    """Class 1 where a pixel is brighter than 0.5."""

    def __init__(self, steepness: float = 20.0) -> None:
        super().__init__()
        self.steepness = steepness

    def forward(self, images: Tensor) -> Tensor:
        z = self.steepness * (images - 0.5)
        return torch.cat([-z, z], 1)


class Leaning(Threshold):
    """A threshold on a local mean that falls from one side of the image to the other."""

    def forward(self, images: Tensor) -> Tensor:
        smooth = nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
        return super().forward(smooth + torch.linspace(-0.2, 0.2, images.shape[-1]))


class Waves(Leaning):
    """Class 1 in bands of brightness, so that what a change does rises and falls with its size."""

    def forward(self, images: Tensor) -> Tensor:
        z = super().forward(images)[:, 1:]
        return torch.cat([-3 * torch.sin(2 * z), 3 * torch.sin(2 * z)], 1)


class Fixed(nn.Module):
    """Answers with one square whatever it is shown, by logits that a gradient reaches."""

    def forward(self, images: Tensor) -> Tensor:
        square = torch.zeros_like(images)
        square[..., 20:44, 20:44] = 1
        z = 8 * (2 * square - 1) + 0 * images
        return torch.cat([-z, z], 1)


def square(side: int = 64, low: int = 20, high: int = 44) -> Tensor:
    labels = torch.zeros(2, side, side, dtype=torch.int64)
    labels[:, low:high, low:high] = 1
    return labels


def run(network: Any, text: str, images: Tensor, truth: Tensor, severity: int) -> Outcome:
    attack: Any = load_attack(text).attack
    budget = Budget("severity", Fraction(severity))
    noise = CaseNoise(0, tuple("abcdefgh"[: len(images)]), images.device)
    return attack_batch(network, attack, images, Goal(truth, truth), budget, noise)


def score(network: Any, images: Tensor, truth: Tensor) -> Tensor:
    predicted = network.as_labels(network.exact_logits(images))
    return regions.case_score(network.score(predicted, truth, None))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gammas_worst_on_a_threshold_is_one_of_its_two_ends(severity: int, prepared: Any) -> None:
    """The score is monotone on either side of no change, so the worst exponent is an end."""
    images = torch.linspace(0, 1, 64).expand(2, 1, 64, 64).clone()
    images[1] = images[1] ** 2  # of this one the other end is worse than of the first
    network = prepared(Threshold(), images)
    truth = network.as_labels(network.exact_logits(images))
    level = Gamma.levels[severity - 1]
    ends = [
        score(network, gamma(images, torch.full((2, 1), end), level), truth) for end in (-1.0, 1.0)
    ]
    found = run(network, "worst/gamma", images, truth, severity).images
    torch.testing.assert_close(score(network, found, truth), torch.minimum(*ends))
    # In closed form, for the ramp: x ** g > 1/2 where x > 2 ** (-1 / g).
    above = {g: (torch.linspace(0, 1, 64) > 2 ** (-1 / g)).sum() for g in (level, 1, 1 / level)}
    expected = min(above[level] / above[1], above[1] / above[1 / level])
    assert score(network, found, truth)[0].item() == pytest.approx(float(expected))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_bias_field_turns_what_its_factor_can_and_nothing_else(
    severity: int, prepared: Any
) -> None:
    """A flat image falls to 0.5 exactly where it is below 0.5 exp(level)."""
    level = BiasField.levels[severity - 1]
    just = 0.5 * math.exp(level)
    images = torch.stack(
        [torch.full((1, 16, 16), just * 0.98), torch.full((1, 16, 16), just * 1.02)]
    )
    network = prepared(Threshold(), images)
    truth = torch.ones(2, 16, 16, dtype=torch.int64)
    found = run(network, "worst/bias-field", images, truth, severity).images
    assert score(network, found, truth).tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(2, 1, 24, 20), (2, 3, 24, 20), (2, 1, 8, 10, 6)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_intensity_stays_within_its_limits(
    shape: tuple[int, ...], severity: int, prepared: Any
) -> None:
    generator = torch.Generator().manual_seed(1)
    images = 0.2 + 0.5 * torch.rand(shape, generator=generator)
    truth = torch.randint(0, 2, (shape[0], *shape[2:]), generator=generator)
    network = prepared(Curved(shape[1], 2, len(shape) - 2), images)
    found = run(network, "worst/bias-field", images, truth, severity).images
    inside = (found > 0) & (found < 1)
    ratio = (found / images).log()[inside]
    assert ratio.abs().max() <= BiasField.levels[severity - 1] + 1e-5
    found = run(network, "worst/contrast", images, truth, severity).images
    for case, own in zip(found, images, strict=True):
        kept = (case > 0) & (case < 1)
        factor = ((case - own.mean()) / (own - own.mean()))[kept].median().item()
        level = Contrast.levels[severity - 1]
        assert 1 / level - 1e-4 <= factor <= level + 1e-4
    found = run(network, "worst/gamma", images, truth, severity).images
    for case, own in zip(found, images, strict=True):
        share = (own - own.min()) / (own.max() - own.min())
        power = ((case - own.min()) / (own.max() - own.min())).clamp(1e-6, 1)
        middle = (share > 0.2) & (share < 0.8)
        exponent = (power.log() / share.log())[middle]
        level = Gamma.levels[severity - 1]
        assert 1 / level - 1e-3 <= exponent.min()
        assert exponent.max() <= level + 1e-3


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("module", [Leaning, Waves])
def test_more_severity_and_no_change_at_all_are_never_better_for_the_network(
    module: Any, name: str, prepared: Any
) -> None:
    """Where the loss has hills, too: a search within the wider limits alone may end on another."""
    images = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(2))
    network = prepared(module(), images)
    truth = network.as_labels(network.exact_logits(images))
    text = f"worst/{name}:steps=3"
    left = [clean_score(network, run(network, text, images, truth, s), truth) for s in range(1, 6)]
    assert all((now <= before).all() for before, now in pairwise(left))
    assert (left[0] < 1).all()


@pytest.mark.parametrize("name", ["pose", "gamma"])
def test_a_severity_costs_what_is_said_and_knows_nothing_of_others(
    name: str, prepared: Any
) -> None:
    images = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(2))
    network = prepared(Curved(), images)
    truth = network.as_labels(network.exact_logits(images))
    for severity, restarts in ((1, 3), (2, 5), (5, 3), (5, 1)):
        text = f"worst/{name}:steps=3,restarts={restarts}"
        outcome = run(network, text, images, truth, severity)
        assert outcome.backwards == [3 * severity * (2 if restarts > 1 else 1)] * 2
        if name == "gamma" and restarts > 1:  # a pose asks once more, for the number of classes
            assert outcome.forwards == [1 + (6 + restarts + 4) * severity] * 2
        alone = run(network, f"{text},severities={severity}", images, truth, severity)
        assert torch.equal(alone.images, outcome.images)


def clean_score(network: Any, outcome: Outcome, truth: Tensor) -> Tensor:
    """Against the truth that the images show."""
    if outcome.displacement is not None:
        truth = warped_labels(truth, outcome.displacement)
    return score(network, outcome.images, truth)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_network_that_sees_nothing_is_worst_at_the_furthest_shift(
    severity: int, prepared: Any
) -> None:
    """The truth moves away from a square that stays: both axes to their limit, in closed form."""
    images, truth = square()[:, None].float(), square()
    network = prepared(Fixed(), images)
    outcome = run(network, "worst/pose:restarts=6", images, truth, severity)
    moved = (2, 4, 6, 9, 12)[severity - 1] / 224 * 64
    overlap = (24 - round(moved)) ** 2
    expected = overlap / (2 * 24**2 - overlap)
    assert (clean_score(network, outcome, truth) <= expected + 1e-6).all()


@pytest.mark.parametrize("name", ["pose", "deformation"])
def test_a_network_that_looks_at_single_pixels_keeps_its_score_where_the_truth_moves_along(
    name: str, prepared: Any
) -> None:
    """But for the outline, where the image is interpolated and the labels are not."""
    images, truth = square()[:, None].float(), square()
    network = prepared(Threshold(), images)
    outcome = run(network, f"worst/{name}", images, truth, 5)
    assert (outcome.images - images).abs().max() > 0.9
    assert (score(network, outcome.images, truth) < 0.9).all()  # of the truth as it was
    assert (clean_score(network, outcome, truth) > 0.97).all()


@pytest.mark.parametrize("spatial", [(40, 30), (20, 24, 16)])
def test_a_deformation_is_bounded_along_every_axis_and_never_folds(spatial: Any) -> None:
    dims = len(spatial)
    generator = torch.Generator().manual_seed(0)
    u = torch.randint(0, 2, (8, dims * 7**dims), generator=generator) * 2.0 - 1
    moves = deformation(u, 10, spatial)
    assert moves.shape == (8, dims, *spatial)
    for axis, length in enumerate(spatial):
        assert moves[:, axis].abs().max() <= 10 / 224 * length + 1e-5
    slopes = torch.stack(torch.gradient(moves, dim=tuple(range(2, dims + 2))), 2)
    jacobian = torch.eye(dims)[..., *[None] * dims] + slopes  # (B, dims, dims, *spatial)
    assert torch.linalg.det(jacobian.movedim((1, 2), (-2, -1))).min() > 0.1
    whole = deformation(torch.ones_like(u), 10, spatial)
    for axis, length in enumerate(spatial):
        torch.testing.assert_close(
            whole[:, axis], torch.full_like(whole[:, axis], 10 / 224 * length)
        )


def test_a_pose_turns_by_its_angle_about_the_centre() -> None:
    moves = pose(torch.tensor([[1.0, 0.0, 0.0]]), 12, (41, 41))[0]
    assert moves[:, 20, 20].abs().max() < 1e-5
    place = torch.tensor([0.0, 15.0])
    turned = place + moves[:, 20, 35]
    assert turned.norm().item() == pytest.approx(15, rel=1e-5)
    cosine = (turned @ place / 15**2).item()
    assert math.degrees(math.acos(cosine)) == pytest.approx(12, rel=1e-3)
    spun = pose(torch.tensor([[1.0, -1.0, 0.5, 0.0, 0.0, 0.0]]), 9, (9, 11, 13))[0]
    axes = [torch.arange(n) - (n - 1) / 2 for n in (9, 11, 13)]
    before = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    torch.testing.assert_close((before + spun).norm(dim=0), before.norm(dim=0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (2, 1, 5, 6, 7), (1, 1, 1, 9)])
def test_a_warp_by_whole_pixels_is_a_shift_of_image_and_labels(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(shape, generator=generator)
    labels = torch.randint(0, 5, (shape[0], *shape[2:]), generator=generator) * 1000
    moves = torch.zeros(shape[0], len(shape) - 2, *shape[2:])
    torch.testing.assert_close(warped(images, moves), images)
    assert torch.equal(warped_labels(labels, moves), labels)
    moves[:, -1] = 2
    shown, truth = warped(images, moves), warped_labels(labels, moves)
    torch.testing.assert_close(shown[..., :-2], images[..., 2:])
    assert torch.equal(truth[..., :-2], labels[..., 2:])
    assert torch.equal(truth[..., -1], labels[..., -1])  # the edge repeats
    planes = torch.stack([labels, 3 * labels], 1)
    assert torch.equal(warped_labels(planes, moves)[:, 1], 3 * truth)


@pytest.mark.parametrize("motion", [pose, deformation])
def test_the_gradient_sees_the_truth_move_too(motion: Any, prepared: Any) -> None:
    """It is that of the loss as a function of the parameters, by finite differences."""
    images = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(3))
    images = nn.functional.avg_pool2d(images, 5, 1, 2)
    truth = square(24, 6, 17)
    network = prepared(Curved(), images)
    from segbench.engine.whole import CaseObjective

    objective = CaseObjective(network, CaseNoise(0, ("a", "b"), images.device), images)
    goal = Goal(truth, truth)
    moved = Moved(objective, images, goal, _soft(goal, 2), motion, 9.0)
    count = 3 if motion is pose else 98
    u = 0.3 * torch.randn(2, count, generator=torch.Generator().manual_seed(4))
    gradient, _, _ = moved.gradient(u)

    def loss(at: Tensor) -> Tensor:
        moves = moved.displacement(at)
        logits = network.exact_logits(warped(images, moves)).double()
        return soft_jaccard(logits, warped(moved.soft, moves).double(), 2)

    direction = torch.randn(2, count, generator=torch.Generator().manual_seed(5))
    step = 1e-3 * direction
    slope = (loss(u + step) - loss(u - step)) / 2e-3
    torch.testing.assert_close((gradient * direction).sum(1).double(), slope, rtol=0.1, atol=1e-4)


class Structures(nn.Module):
    """Two overlapping structures: bright, and very bright."""

    output = "sigmoid"

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([20 * (images - 0.3), 20 * (images - 0.6)], 1)


@pytest.mark.parametrize("name", ["pose", "deformation", "gamma"])
def test_overlapping_structures_move_together(name: str, prepared: Any) -> None:
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    network = prepared(Structures(), images, 3)
    truth = network.as_labels(network.exact_logits(images))
    outcome = run(network, f"worst/{name}", images, truth, 5)
    assert (clean_score(network, outcome, truth) < 1).all()


class Torn:
    """A stranger's warp that forgets an axis."""

    needs, budget_kind, budgets = "labels", "severity", (Budget("severity", Fraction(1)),)

    def __init__(self, shape: tuple[int, ...], value: float = 0.0) -> None:
        self.shape, self.value = shape, value

    def warp(self, objective: Any, images: Tensor, goal: Any, budget: Any, noise: Any) -> Tensor:
        return torch.full(self.shape, self.value)


@pytest.mark.parametrize(
    ("torn", "reason"),
    [
        (Torn((2, 1, 8, 8)), r"warp returned \(2, 1, 8, 8\).*expected a displacement \(2, 2, 8, 8"),
        (Torn((2, 2, 8, 8), math.nan), "not finite"),
    ],
)
def test_a_displacement_is_checked_where_it_is_returned(
    torn: Any, reason: str, prepared: Any
) -> None:
    images, truth = torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
    network, noise = prepared(Threshold(), images), CaseNoise(0, ("a", "b"), images.device)
    with pytest.raises(ContractError, match=reason):
        attack_batch(network, torn, images, Goal(truth, truth), torn.budgets[0], noise)


def test_the_contrast_of_one_is_no_change() -> None:
    images = torch.rand(2, 1, 5, 5)
    for change in (contrast, gamma):
        torch.testing.assert_close(change(images, torch.zeros(2, 1), 2.0), images)
