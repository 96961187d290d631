"""Each corruption is the change that it says it is, drawn per case, and worse with severity."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from toys import Curved

from segbench.api import Budget, Goal
from segbench.data.phantoms.phantom import PhantomCXR
from segbench.engine.noise import CaseNoise
from segbench.errors import UserError
from segbench.plugins.attack import NamedAttack, attack_budgets, load_attack
from segbench.plugins.naming import attack_names, attack_spec
from segbench_attacks.calibration import SIMILARITIES, structural_similarity
from segbench_attacks.corruptions import CORRUPTIONS, gibbs, motion

README = Path(__file__).resolve().parents[2] / "attacks" / "README.md"
NOISE = CaseNoise(0, ("a", "b"), torch.device("cpu"))


def corrupted(name: str, images: Tensor, severity: int = 3, noise: CaseNoise = NOISE) -> Tensor:
    attack: Any = load_attack(f"corruption/{name}").attack
    goal = Goal(torch.zeros(0), torch.zeros(0))
    budget = Budget("severity", Fraction(severity))
    found: Tensor = attack.run(None, images.clone(), goal, budget, noise)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    return found


@pytest.fixture(scope="module")
def radiographs() -> Tensor:
    """Two generated ones, (2, 1, 96, 96)."""
    dataset = PhantomCXR()
    cases = [dataset.load(entry.case_id) for entry in dataset.entries("test")[:2]]
    return torch.stack([torch.from_numpy(case.image) for case in cases])


@pytest.fixture
def gray() -> Tensor:
    return torch.full((2, 1, 40, 30), 0.4)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_severity_is_further_from_the_image(name: str, radiographs: Tensor) -> None:
    distances = [
        (corrupted(name, radiographs, severity).clamp(0, 1) - radiographs).flatten(1).norm(dim=1)
        for severity in range(1, 6)
    ]
    assert (torch.stack(distances).diff(dim=0) > 0).all(), distances
    assert (distances[0] > 0.1).all()


@pytest.mark.parametrize("name", ["noise", "rician", "motion", "gamma", "bias-field", "spike"])
def test_what_is_drawn_is_the_cases_own(name: str, radiographs: Tensor) -> None:
    same = radiographs[:1].expand(2, -1, -1, -1)
    found = corrupted(name, same)
    others = [CaseNoise(0, (f"{n}", "b"), NOISE.device) for n in range(8)]
    assert any(not torch.equal(corrupted(name, same, noise=o)[0], found[0]) for o in others)
    assert all(torch.equal(corrupted(name, same, noise=o)[1], found[1]) for o in others)


def test_noise_has_the_stated_deviation(gray: Tensor) -> None:
    images = torch.full((2, 1, 200, 200), 0.5)
    assert corrupted("noise", images).std().item() == pytest.approx(0.12, rel=0.01)
    # A Rician magnitude's mean square is the signal's square and twice the variance.
    square = corrupted("rician", images).square().mean().item()
    assert square == pytest.approx(0.25 + 2 * 0.12**2, rel=0.01)


@pytest.mark.parametrize("name", ["blur", "motion", "downsample", "gibbs", "ghosting", "contrast"])
def test_a_constant_image_has_nothing_to_lose(name: str, gray: Tensor) -> None:
    """No black border creeps in, and the mean stays."""
    torch.testing.assert_close(corrupted(name, gray, 5), gray, atol=1e-5, rtol=0)


def test_blur_spreads_a_point_by_its_sigma_in_pixels_of_a_224_edge() -> None:
    image = torch.zeros(1, 1, 224, 112)
    image[0, 0, 112, 56] = 1
    found = corrupted("blur", image, 3, NOISE.select(torch.tensor([0])))[0, 0].double()
    rows = torch.arange(224).double() - 112
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    variance = (found.sum(1) * rows**2).sum().item()
    assert variance == pytest.approx(3**2, rel=0.02)


def test_motion_is_a_line_through_the_point() -> None:
    image = torch.zeros(2, 1, 101, 101)
    image[:, 0, 50, 50] = 1
    for found in motion(image, 20 * 224 / 101, NOISE)[:, 0]:
        places = (found > 0).nonzero().double() - 50
        weights = found[found > 0].double()
        _, spread, _ = torch.linalg.svd(places * weights[:, None].sqrt())
        assert found.sum().item() == pytest.approx(1, abs=1e-4)
        assert spread[0] ** 2 == pytest.approx(20**2 / 12, rel=0.1)  # a uniform line of length 20
        assert spread[1] < 0.1 * spread[0]


def test_contrast_and_gamma_are_maps_of_intensity(radiographs: Tensor) -> None:
    flat = radiographs.flatten(1)
    found = corrupted("contrast", radiographs).flatten(1)
    torch.testing.assert_close(found.mean(1), flat.mean(1))
    torch.testing.assert_close(found.std(1), 0.35 * flat.std(1))
    found = corrupted("gamma", radiographs).flatten(1)
    torch.testing.assert_close(found.amin(1), flat.amin(1))
    torch.testing.assert_close(found.amax(1), flat.amax(1))
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    share, of = ((values - low) / (high - low) for values in (found, flat))
    for case in range(2):
        either = [(share[case] - of[case] ** exponent).abs().amax() for exponent in (2, 0.5)]
        assert min(either) < 1e-3


def test_a_bias_field_is_one_smooth_factor_for_all_channels(radiographs: Tensor) -> None:
    images = torch.cat([radiographs, 0.5 * radiographs], 1) + 0.1
    factor = corrupted("bias-field", images) / images
    torch.testing.assert_close(factor[:, 0], factor[:, 1], atol=1e-5, rtol=0)
    rough = factor.log()[:, 0].double().diff(n=4, dim=1)  # of a cubic, 0
    assert rough.abs().amax() < 1e-4
    assert factor.amax() > 1.05 or factor.amin() < 0.95


def test_gibbs_cuts_the_corners_of_k_space(radiographs: Tensor) -> None:
    found = gibbs(radiographs, 0.8, NOISE)
    spectrum = torch.fft.fftshift(torch.fft.fft2(found[:, 0]), dim=(1, 2)).abs()
    far = torch.hypot(*torch.meshgrid(*[torch.arange(96) - 47.5] * 2, indexing="ij"))
    cut = 0.2 * 96 * math.sqrt(2) / 2
    assert spectrum[:, far > cut + 1.5].amax() < 1e-2
    assert spectrum[:, far < cut - 1.5].amin() > 0


def test_ghosts_stand_a_quarter_of_the_image_apart() -> None:
    image = torch.zeros(2, 1, 64, 64)
    image[:, 0, 10, 20] = 1
    for found in corrupted("ghosting", image, 5)[:, 0]:
        ghosts = (found.abs() > 0.1).nonzero().tolist()
        rows = sorted([(10 + 16 * n) % 64, 20] for n in range(4))
        columns = sorted([10, (20 + 16 * n) % 64] for n in range(4))
        assert sorted(ghosts) in (rows, columns)


def test_a_spike_is_a_plane_wave_of_its_amplitude(gray: Tensor) -> None:
    wave = (corrupted("spike", gray, 4) - gray)[:, 0].double()
    assert wave.abs().amax().item() == pytest.approx(0.2, rel=0.05)
    spectrum = torch.fft.fft2(wave).abs().flatten(1)
    two = spectrum.topk(2).values.square().sum(1) / spectrum.square().sum(1)
    assert (two > 0.999).all()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_jpeg_is_pillows(channels: int) -> None:
    images = torch.rand(2, channels, 24, 16, generator=torch.Generator().manual_seed(1))
    found = corrupted("jpeg", images)
    for case in range(2):
        pixels = (images[case] * 255).round().byte().numpy()
        planes = [pixels.transpose(1, 2, 0)] if channels == 3 else list(pixels)
        expected = []
        for plane in planes:
            file = io.BytesIO()
            Image.fromarray(plane).save(file, "JPEG", quality=20)
            read = np.asarray(Image.open(file))
            expected += list(read.transpose(2, 0, 1)) if channels == 3 else [read]
        np.testing.assert_allclose(found[case].numpy(), np.stack(expected) / 255, atol=1e-6)


def test_jpeg_of_volumes_is_refused() -> None:
    with pytest.raises(UserError, match="corruption/jpeg is for 2-D images"):
        corrupted("jpeg", torch.rand(2, 1, 4, 4, 4))


@pytest.mark.parametrize("text", ["0", "6", "1+1", "3+1"])
def test_severities_are_some_of_1_to_5(text: str) -> None:
    with pytest.raises(
        UserError, match=f"severities={text} must be some of 1 to 5".replace("+", r"\+")
    ):
        load_attack(f"corruption/blur:severities={text}")


def test_some_severities_can_be_asked_for() -> None:
    some: NamedAttack = load_attack("corruption/blur:severities=2+5")
    assert [budget.value for budget in attack_budgets(some, [])] == [2, 5]
    assert load_attack(some.label).attack == some.attack


def test_an_unknown_corruption_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown attack 'corruption/blurr'.*did you mean 'blur'"):
        load_attack("corruption/blurr")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_readme_states_every_level(name: str) -> None:
    levels = CORRUPTIONS[name][1:]
    assert f"| `corruption/{name}` |" in README.read_text()
    (line,) = [x for x in README.read_text().splitlines() if f"| `corruption/{name}` |" in x]
    assert ", ".join(f"{level:g}" for level in levels) in line


ANYWHERE: Any = SimpleNamespace(region=None)  # an objective that is asked nothing else
CALIBRATED = [name for name in CORRUPTIONS if name not in ("ghosting", "motion")]  # see below


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibrated_severities_are_alike_in_what_can_be_seen(
    name: str, radiographs: Tensor
) -> None:
    attack: Any = load_attack(f"corruption/{name}:calibrated=ssim").attack
    goal, severities = Goal(torch.zeros(0), torch.zeros(0)), (3, 4)
    for severity in severities:
        budget = Budget("severity", Fraction(severity))
        found = attack.run(ANYWHERE, radiographs.clone(), goal, budget, NOISE)
        for case in range(2):
            seen = structural_similarity(found[case : case + 1], radiographs[case : case + 1])
            assert seen == pytest.approx(SIMILARITIES[severity - 1], abs=0.03)
    one = NOISE.select(torch.tensor([1]))
    alone = attack.run(ANYWHERE, radiographs[1:].clone(), goal, budget, one)
    torch.testing.assert_close(alone[0], found[1])


def test_the_similarity_is_that_of_wang_2004() -> None:
    """Means, variances and covariance under a Gaussian of 1.5 pixels cut at 11, by scipy."""
    random = np.random.default_rng(0)
    x = random.random((40, 36))
    y = (x + 0.1 * random.standard_normal(x.shape)).clip(0, 1)

    def mean(values: Any) -> Any:
        return ndimage.gaussian_filter(values, 1.5, truncate=3.4)[5:-5, 5:-5]

    own, theirs = mean(x), mean(y)
    both = mean(x * y) - own * theirs
    spread = mean(x * x) - own**2 + mean(y * y) - theirs**2
    ssim = (2 * own * theirs + 1e-4) * (2 * both + 9e-4)
    ssim /= (own**2 + theirs**2 + 1e-4) * (spread + 9e-4)
    pair = (torch.from_numpy(values).float()[None, None] for values in (y, x))
    assert structural_similarity(*pair) == pytest.approx(ssim.mean(), abs=1e-4)


def test_a_corruption_that_cannot_be_as_severe_says_so(radiographs: Tensor) -> None:
    attack: Any = load_attack("corruption/ghosting:calibrated=ssim").attack
    goal, budget = Goal(torch.zeros(0), torch.zeros(0)), Budget("severity", Fraction(5))
    with pytest.raises(UserError, match=r"comes no nearer than 0\.\d\d to an SSIM of 0\.6 here"):
        attack.run(ANYWHERE, radiographs.clone(), goal, budget, NOISE)


@pytest.mark.parametrize("wrapped", [False, True])
def test_where_a_part_alone_may_change_the_whole_that_is_scored_has_the_similarity(
    wrapped: bool, radiographs: Tensor, prepared: Any, run: Any
) -> None:
    network = prepared(Curved(), radiographs)
    labels = network.as_labels(network.exact_logits(radiographs))
    region = torch.zeros(2, 1, *radiographs.shape[2:], dtype=torch.bool)
    region[0, :, : radiographs.shape[2] // 2], region[1, ..., 5:] = True, True
    text = "corruption/noise:calibrated=ssim,severities=3"
    attack = load_attack(f'worst:attack="{text}",queries=1' if wrapped else text)
    found = run(network, attack, radiographs, labels, region=region).images
    assert torch.equal(found.where(~region, 0), radiographs.where(~region, 0))
    for case in range(2):
        seen = structural_similarity(found[case : case + 1], radiographs[case : case + 1])
        assert seen == pytest.approx(SIMILARITIES[2], abs=0.03)
    region[:] = False
    region[..., 0, 0] = True
    with pytest.raises(UserError, match="comes no nearer than"):
        run(network, attack, radiographs, labels, region=region)


def test_calibrated_severities_are_another_attack_by_name_and_library() -> None:
    plain, seen = load_attack("corruption/blur"), load_attack("corruption/blur:calibrated=ssim")
    assert seen.label == "corruption/blur:calibrated=ssim"
    specs = [attack_spec(a.label, a.parameters_text) for a in (plain, seen)]
    assert attack_names(specs)[specs[1]] == "corruption/blur:calibrated=ssim"
    assert attack_names(specs[1:])[specs[1]] == "corruption/blur:calibrated=ssim"
    assert (sorted(plain.libraries), sorted(seen.libraries)) == (["scipy"], ["monai", "scipy"])
