"""Boundary metrics: MONAI's definitions on whole masks, and the rule for empty labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from monai.networks.utils import one_hot
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import Tensor, nn

from segbench.api import Case
from segbench.evaluation.batch import Batch
from segbench.evaluation.requested import Extra
from segbench.metrics import boundary
from segbench.metrics.boundary import boundary_scores, default_tolerance, surface_distances

SIDE = 16


def case(
    labels: Tensor,
    classes: int,
    spacing: Any = None,
    ignore: int | None = None,
    tolerance: float | None = None,
) -> Case:
    names = tuple(f"class {k}" for k in range(classes))
    image = np.zeros((1, *labels.shape), np.float32)
    return Case(
        "case", "group", image, labels.numpy(), names, ignore, spacing=spacing,
        nsd_tolerance=tolerance,
    )  # fmt: skip


@pytest.fixture
def score(prepared: Any) -> Any:
    """The boundary scores of one predicted map, as a batch of it is scored."""

    def one(
        predicted: Tensor, truth: Tensor, classes: int = 2, expected: float = 1, **given: Any
    ) -> list[dict[str, float]]:
        convolution: Any = nn.Conv2d if truth.dim() == 2 else nn.Conv3d
        images = torch.rand(1, 1, *truth.shape)
        network = prepared(convolution(1, classes, 1), images, classes)
        batch = Batch([case(truth, classes, **given)], images, truth[None])
        (scored,) = Extra(boundary=True).scores(network, predicted[None], batch)
        asked = ("hd95", "nsd", "nsd_tolerance", "pixel_mm")
        rows = [{name: row[name] for name in asked} for row in scored]
        assert all(math.isnan(row[name]) for row in scored for name in {*row} - {*asked})
        assert all(row.pop("nsd_tolerance") == expected for row in rows)
        unit = max(given.get("spacing") or (0,))
        assert all(row.pop("pixel_mm") == unit for row in rows)
        return rows

    return one


def discs(seed: int, dims: int, classes: int) -> Tensor:
    """Balls of every class at random places."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.arange(SIDE)] * dims, indexing="ij")).float()
    labels = torch.zeros(grid.shape[1:], dtype=torch.int64)
    for k in range(1, classes):
        centre = 4 + 8 * torch.rand(dims, generator=generator)
        distance = (grid - centre.view(-1, *[1] * dims)).square().sum(0)
        labels[distance < (2 + 2 * torch.rand((), generator=generator)) ** 2] = k
    return labels


@pytest.mark.filterwarnings("ignore:monai.metrics:FutureWarning")  # MONAI warns of itself
@pytest.mark.parametrize(("dims", "spacing"), [(2, None), (2, (0.5, 2.0)), (3, (1.0, 1.0, 3.0))])
def test_distances_are_monais(dims: int, spacing: Any, score: Any) -> None:
    for seed in range(4):
        predicted, truth = discs(seed, dims, 3), discs(seed + 10, dims, 3)
        tolerance = max(spacing or (1.0,))
        found = score(predicted, truth, 3, tolerance, spacing=spacing)
        pair = [one_hot(m[None, None], 3) for m in (predicted, truth)]
        step = list(spacing or (1.0,) * dims)
        hd95 = compute_hausdorff_distance(*pair, percentile=95, spacing=step)
        nsd = compute_surface_dice(*pair, class_thresholds=[tolerance] * 2, spacing=step)
        assert [row["hd95"] for row in found] == pytest.approx(hd95[0].tolist(), abs=1e-5)
        assert [row["nsd"] for row in found] == pytest.approx(nsd[0].tolist(), abs=1e-5)


STEPS = [(1.0, 1.0), (0.3, 2.0), (1.0, 0.7, 3.0)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("share", [0.002, 0.02, 0.5])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_surface_distances_are_those_of_the_whole_transform(
    step: tuple[float, ...], share: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few points and many, in one piece and in several, by a tree and by the nearest voxels."""
    monkeypatch.setattr(boundary, "_CHUNK", chunk)
    random = np.random.default_rng(int(1000 * share))
    points, surface = (random.random((23, 31, 17)[: len(step)]) < share for _ in range(2))
    points.flat[5] = surface.flat[99] = True
    expected = distance_transform_edt(~surface, sampling=step)[points]
    for measure in (surface_distances, boundary._by_tree, boundary._by_transform):
        found = measure(points, surface, step)
        np.testing.assert_allclose(found, expected.astype(np.float32), rtol=1e-7)


def test_a_prediction_of_noise_is_measured_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MONAI takes no quantile of more than 16 million distances; ours is of any number."""
    monkeypatch.setattr(torch, "quantile", None)
    noise = torch.rand(1, 24, 24, 24, generator=torch.Generator().manual_seed(0)) < 0.5
    ball = torch.zeros(1, 24, 24, 24, dtype=torch.bool)
    ball[0, 8:16, 8:16, 8:16] = True
    (found,) = boundary_scores(noise, ball, torch.ones_like(ball), (1.0, 1.0, 1.0), 1.0)
    edges = [mask[0].numpy() & ~binary_erosion(mask[0].numpy()) for mask in (noise, ball)]
    distances = [distance_transform_edt(~there)[here] for here, there in (edges, edges[::-1])]
    assert found["hd95"] == pytest.approx(max(np.quantile(d, 0.95) for d in distances))
    assert found["nsd"] == (np.concatenate(distances) <= 1).mean()


SQUARE = torch.zeros(SIDE, SIDE, dtype=torch.int64)
SQUARE[4:8, 4:8] = 1


def test_a_shifted_square_is_that_far_away(score: Any) -> None:
    (row,) = score(SQUARE.roll(3, 1), SQUARE, spacing=(1.0, 0.5))
    assert row["hd95"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [(None, 1), ((0.2, 0.2), 1), ((0.7, 0.7, 0.9), 1), ((1.5, 1.5), 1.5), ((0.8, 0.8, 5.0), 5)],
)
def test_the_tolerance_is_a_millimetre_or_a_pixel_whichever_is_longer(
    spacing: Any, expected: float
) -> None:
    assert default_tolerance(spacing) == expected


def test_a_shift_is_forgiven_up_to_the_tolerance(score: Any) -> None:
    """By one pixel of 3 mm it is, by two it is not, unless the data set says so."""
    one, two, spacing = SQUARE.roll(1, 1), SQUARE.roll(2, 1), (3.0, 3.0)
    assert score(one, SQUARE, 2, 3, spacing=spacing)[0]["nsd"] == 1
    assert score(two, SQUARE, 2, 3, spacing=spacing)[0]["nsd"] < 1
    assert score(one, SQUARE, 2, 2.5, spacing=spacing, tolerance=2.5)[0]["nsd"] < 1
    assert score(two, SQUARE, 2, 6, spacing=spacing, tolerance=6)[0]["nsd"] == 1
    assert score(two, SQUARE, 2, 2, tolerance=2)[0]["nsd"] == 1  # pixels


def test_the_same_mask_has_no_distance(score: Any) -> None:
    assert score(SQUARE, SQUARE) == [{"hd95": 0.0, "nsd": 1.0}]


@pytest.mark.parametrize(("spacing", "diagonal"), [(None, SIDE * 2**0.5), ((3.0, 4.0), SIDE * 5)])
def test_a_lost_class_is_a_diagonal_away(spacing: Any, diagonal: float, score: Any) -> None:
    (row,) = score(torch.zeros_like(SQUARE), SQUARE, 2, max(spacing or (1,)), spacing=spacing)
    assert row == pytest.approx({"hd95": diagonal, "nsd": 0.0})


@pytest.mark.parametrize("predicted", [SQUARE, torch.zeros_like(SQUARE)])
def test_an_absent_class_has_no_boundary(predicted: Tensor, score: Any) -> None:
    (row,) = score(predicted, torch.zeros_like(SQUARE))
    assert math.isnan(row["hd95"])
    assert math.isnan(row["nsd"])


def test_ignored_pixels_have_no_boundary(score: Any) -> None:
    truth, predicted = SQUARE.clone(), SQUARE.clone()
    truth[12:], predicted[13:15, 3:9] = 255, 1
    assert score(predicted, truth, ignore=255) == [{"hd95": 0.0, "nsd": 1.0}]


@pytest.mark.parametrize("shape", [(1, SIDE), (SIDE, 1), (1, 1)])
def test_masks_that_fill_a_thin_image(shape: tuple[int, ...], score: Any) -> None:
    full = torch.ones(shape, dtype=torch.int64)
    assert score(full, full) == [{"hd95": 0.0, "nsd": 1.0}]
