"""Resizing: constants and ranges are kept, labels are never mixed, linear is PIL's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segbench.data.resize import check_size, resize_image, resize_labels
from segbench.errors import UserError

SIDES = st.integers(1, 40)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.floats(0, 1, width=32))
def test_a_constant_image_stays_constant(
    old: tuple[int, int], new: tuple[int, int], value: float
) -> None:
    image = np.full((2, *old), value, dtype=np.float32)
    resized = resize_image(image, new)
    assert resized.shape == (2, *new)
    np.testing.assert_allclose(resized, value, atol=1e-6)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES))
def test_labels_take_only_values_that_were_there(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    labels = np.arange(old[0] * old[1]).reshape(old) * 1000
    resized = resize_labels(labels, new)
    assert resized.shape == new
    assert set(resized.ravel()) <= set(labels.ravel())


@pytest.mark.parametrize("new", [(16, 24), (50, 31)])
def test_images_resize_as_pillow_does_and_labels_as_its_nearest(new: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((1, 33, 47), dtype=np.float32)
    linear = Image.fromarray(image[0]).resize(new[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resize_image(image, new)[0], np.asarray(linear), atol=1e-5)
    nearest = Image.fromarray(image[0]).resize(new[::-1], Image.Resampling.NEAREST)
    levels = (image[0] * 1e6).astype(np.int64)
    expected = (np.asarray(nearest) * 1e6).astype(np.int64)
    np.testing.assert_array_equal(resize_labels(levels, new), expected)


def test_halving_and_doubling_labels_is_the_identity_on_blocks() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7))
    doubled = resize_labels(labels, (10, 12, 14))
    np.testing.assert_array_equal(doubled, labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    np.testing.assert_array_equal(resize_labels(doubled, (5, 6, 7)), labels)


def test_an_impossible_size_is_refused_and_0_means_as_it_is() -> None:
    check_size(0)
    for size in (-1, 7, 10_000):
        with pytest.raises(UserError, match=f"size={size} is not a side"):
            check_size(size)
