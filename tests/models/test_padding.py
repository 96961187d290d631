"""Padding to a stride and cropping back."""

import pytest
import torch
from torch.testing import assert_close

from segbench_models.padding import crop_to, pad_to_multiple

SHAPES = [(1, 2, 1, 5), (2, 1, 8, 9), (1, 1, 3, 5, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_sizes_become_the_next_multiple_and_the_edge_is_repeated(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    padded = pad_to_multiple(images, 4)
    assert padded.shape[2:] == tuple(-(-size // 4) * 4 for size in shape[2:])
    nearest = images
    for axis in range(2, images.dim()):
        index = torch.arange(padded.shape[axis]).clamp(max=shape[axis] - 1)
        nearest = nearest.index_select(axis, index)
    assert torch.equal(padded, nearest)


@pytest.mark.parametrize("shape", SHAPES)
def test_cropping_undoes_padding(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    assert torch.equal(crop_to(pad_to_multiple(images, 4), images), images)


def test_a_size_that_fits_is_left_alone() -> None:
    images = torch.rand(1, 1, 8, 4)
    assert pad_to_multiple(images, 4) is images
    assert crop_to(images, images) is images


def test_an_edge_pixel_gathers_the_gradient_of_its_copies() -> None:
    images = torch.rand(1, 1, 1, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(pad_to_multiple(images, 4).sum(), images)
    assert_close(gradient, torch.tensor([[[[4.0, 4.0, 4.0, 4.0, 16.0]]]]))
