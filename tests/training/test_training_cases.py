"""Training cases: variation is a function of (seed, epoch, case) and keeps image and label."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from segbench.api import Case, Entry
from segbench.training.augment import augment, derive_seed, halve
from segbench.training.cases import CaseMemory, epoch_batches, hold_out, stack_padded
from segbench.training.loss import IGNORED
from segbench.training.recipes import Augmentation, load_recipe

STRONG = Augmentation(
    rotate=30, scale=0.2, translate=0.1, brightness=0.2, contrast=0.2, gamma=0.3, flip=True
)
SHAPES = [(24, 20), (8, 10, 12)]


def sample(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    labels = torch.zeros(shape, dtype=torch.long)
    labels[tuple(slice(2, s // 2) for s in shape)] = 2
    labels[..., -1] = IGNORED
    return torch.rand(2, *shape, generator=random), labels


@pytest.mark.parametrize("shape", SHAPES)
def test_variation_depends_on_its_seed_alone(shape: tuple[int, ...]) -> None:
    image, labels = sample(shape)
    first = augment(image, labels, STRONG, 5)
    other = augment(image, labels, STRONG, 6)
    np.random.random(3)
    torch.rand(3)
    again = augment(image, labels, STRONG, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(image, sample(shape)[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_variation_keeps_shape_range_and_label_values(shape: tuple[int, ...]) -> None:
    image, labels = sample(shape)
    for seed in range(8):
        varied, moved = augment(image, labels, STRONG, seed)
        assert (varied.shape, varied.dtype) == (image.shape, torch.float32)
        assert (moved.shape, moved.dtype) == (labels.shape, torch.int64)
        assert varied.min() >= 0
        assert varied.max() <= 1
        assert set(moved.unique().tolist()) <= {0, 2, IGNORED}


@pytest.mark.parametrize("shape", SHAPES)
def test_image_and_labels_move_together(shape: tuple[int, ...]) -> None:
    geometry = STRONG.model_copy(update={"brightness": 0.0, "contrast": 0.0, "gamma": 0.0})
    labels = sample(shape)[1].clamp(min=0) // 2
    for seed in range(8):
        varied, moved = augment(labels.float()[None], labels, geometry, seed)
        sure = (varied[0] < 0.1) | (varied[0] > 0.9)
        assert torch.equal(varied[0].round().long()[sure], moved[sure])


@pytest.mark.parametrize("shape", SHAPES)
def test_no_strength_is_no_variation(shape: tuple[int, ...]) -> None:
    image, labels = sample(shape)
    varied = augment(image, labels, Augmentation(), 5)
    assert torch.equal(varied[0], image)
    assert torch.equal(varied[1], labels)


def test_brightness_and_contrast_are_affine_within_their_stated_ranges() -> None:
    image = torch.linspace(0.3, 0.6, 64).reshape(1, 8, 8)
    labels = torch.zeros(8, 8, dtype=torch.long)
    for seed in range(8):
        shifted, _ = augment(image, labels, Augmentation(brightness=0.2), seed)
        scaled, _ = augment(image, labels, Augmentation(contrast=0.2), seed)
        offset, factor = shifted - image, scaled / image
        torch.testing.assert_close(offset, offset[:, :1, :1].expand_as(offset))
        torch.testing.assert_close(factor, factor[:, :1, :1].expand_as(factor))
        assert offset.abs().max() <= 0.2 + 1e-6
        assert (factor - 1).abs().max() <= 0.2 + 1e-6


@pytest.mark.parametrize("shape", [(8, 6), (4, 6, 8), (7, 5), (1, 4, 4)])
def test_halving_averages_pixels_and_keeps_image_and_labels_aligned(
    shape: tuple[int, ...],
) -> None:
    image, labels = sample((16, 16))[0], torch.zeros(shape, dtype=torch.long)
    image = torch.rand(1, *shape)
    coarse, fewer = halve(image, labels)
    assert coarse.shape[1:] == fewer.shape == tuple((s + 1) // 2 for s in shape)
    if all(s % 2 == 0 for s in shape):
        torch.testing.assert_close(coarse.mean(), image.mean())


def test_stacking_pads_images_with_0_and_labels_with_the_ignored_value() -> None:
    one, two = (
        (torch.ones(1, 3, 5), torch.ones(3, 5).long()),
        (
            torch.ones(1, 4, 2),
            torch.ones(4, 2).long(),
        ),
    )
    images, labels = stack_padded([one, two])
    assert images.shape == (2, 1, 4, 5)
    assert torch.equal(images[:, 0] == 0, labels == IGNORED)
    assert [int(x) for x in images.sum((1, 2, 3))] == [15, 8]


class Counted:
    """Counts how often each case is decoded."""

    class_names, in_channels, spatial_dims = ("a", "b"), 1, 2

    def __init__(self, image: np.ndarray) -> None:
        self.image, self.loads = image, 0

    def load(self, case_id: str) -> Case:
        self.loads += 1
        labels = np.array([[0, 1], [255, 1]])
        return Case(case_id, case_id, self.image, labels, ("a", "b"), ignore_index=255)


@pytest.mark.parametrize("on_grid", [True, False])
def test_memory_gives_the_case_exactly_and_decodes_it_once_if_there_is_room(
    on_grid: bool,
) -> None:
    grid = np.array([[[0, 3], [128, 255]]], np.float32) / np.float32(255)
    data = Counted(grid if on_grid else grid * np.float32(0.999))
    roomy, full = CaseMemory(data), CaseMemory(data, limit=0)
    for memory in (roomy, full, roomy, full):
        image, labels = memory["x"]
        assert np.array_equal(image.numpy(), data.image)
        assert labels.tolist() == [[0, 1], [IGNORED, 1]]
        image.zero_()
    assert data.loads == 3


def batches(seed: int, epoch: int, ids: list[str]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    random = np.random.default_rng(0)
    memory = CaseMemory(Counted(random.random((1, 2, 2)).astype(np.float32)))
    recipe = load_recipe("quick", "x", {"batch_size": 4, "coarse_epochs": 0.0})
    return epoch_batches(memory, ids, recipe, seed=seed, epoch=epoch)


def test_an_epoch_can_be_repeated_and_no_two_are_alike() -> None:
    ids = [f"case{i}" for i in range(9)]
    first, again, later, other = (
        torch.cat([images for images, _ in batches(seed, epoch, ids)])
        for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


def test_batches_are_even_to_within_one_case() -> None:
    for count in (1, 4, 5, 9):
        sizes = [len(images) for images, _ in batches(0, 0, [str(i) for i in range(count)])]
        assert sum(sizes) == count
        assert max(sizes) <= 4
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.25, 0.99])
@pytest.mark.parametrize("groups", [1, 2, 10])
def test_holding_out_never_splits_a_group_and_always_leaves_one(
    fraction: float, groups: int
) -> None:
    entries = [Entry(f"{g}-{i}", f"{g}", (1, 2, 2)) for i in range(3) for g in range(groups)]
    training, validation = hold_out(entries, fraction, seed=3)
    assert sorted([*training, *validation], key=entries.index) == entries
    assert not {e.group_id for e in training} & {e.group_id for e in validation}
    assert training
    assert bool(validation) == (fraction > 0 and groups > 1)
    assert hold_out(entries, fraction, seed=3) == (training, validation)


def test_derived_seeds_differ_by_every_part() -> None:
    parts = [(0, 1, "a"), (0, 1, "b"), (0, 2, "a"), (1, 1, "a"), (0, 11, "a"), (0, 1, "1/a")]
    assert len({derive_seed(*p) for p in parts}) == len(parts)
