"""Rounding to a file's levels: towards the clean image, so that no ball is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.api import Case, Intensity
from segbench.data.quantize import round_to_levels, to_levels, to_units
from segbench.errors import UserError

FILES = {
    8: Intensity(0.0, 255.0, 8),
    12: Intensity(4095.0, 0.0, 12),  # JSRT's, which falls as the picture rises
    16: Intensity(0.0, 65535.0, 16),
}


def case(image: np.ndarray, *maps: Intensity) -> Case:
    labels = np.zeros(image.shape[1:], np.int64)
    return Case("a", "a", image, labels, ("background", "lung"), intensity=maps or None)


def on_levels(scale: Intensity, seed: int, shape: tuple[int, ...] = (1, 6, 7)) -> np.ndarray:
    """An image of such a file, as the loaders make it."""
    whole = int(max(scale.low, scale.high))
    levels = np.random.default_rng(seed).integers(0, whole + 1, shape).astype(np.float32)
    levels.ravel()[:2] = 0, whole
    return (levels if scale.high else whole - levels) / np.float32(whole)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 99), st.floats(0, 20))
def test_an_image_on_its_levels_stays_in_every_ball_and_the_box(
    bits: int, seed: int, levels: float
) -> None:
    scale = FILES[bits]
    clean = on_levels(scale, seed)
    eps = np.float32(levels / (2**bits - 1))
    noise = np.random.default_rng(seed + 1).uniform(-eps, eps, clean.shape).astype(np.float32)
    noise.ravel()[::3] = eps
    image = np.clip(clean + noise, 0, 1)
    found = round_to_levels(image, case(clean, scale))
    whole = to_units(found, (scale,))
    np.testing.assert_allclose(whole, np.rint(whole), atol=0.01)
    change, before = (some.astype(np.float64) - clean for some in (found, image))
    assert (np.abs(change) <= np.abs(before) + 2.0**-22).all()
    assert (change * before >= -(2.0**-44)).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert (np.abs(change - before) < 1 / (2**bits - 1) + 2.0**-22).all()


@pytest.mark.parametrize("bits", FILES)
def test_half_a_level_is_none_and_a_whole_one_is_kept(bits: int) -> None:
    scale = FILES[bits]
    clean, level = on_levels(scale, 3), np.float32(1 / (2**bits - 1))
    inner = np.clip(clean, 2 * level, 1 - 2 * level)
    for sign in (-1, 1):
        half = round_to_levels(inner + sign * level / 2, case(inner, scale))
        np.testing.assert_array_equal(half, inner)
        whole = to_levels(inner + sign * level, case(inner, scale)) - to_levels(
            inner, case(inner, scale)
        )
        assert set(whole.ravel()) == {sign if scale.high else -sign}


def test_a_clean_image_comes_back_to_the_bit() -> None:
    clean = on_levels(FILES[8], 5, (3, 16, 16))
    np.testing.assert_array_equal(round_to_levels(clean, case(clean, *[FILES[8]] * 3)), clean)


def test_between_the_levels_a_pixel_takes_one_on_its_way_or_the_nearest_to_the_clean() -> None:
    scale = FILES[8]
    clean = np.array([[[10.4, 10.4, 10.4, 10.6]]], np.float32) / 255
    image = np.array([[[10.8, 12.3, 9.2, 10.9]]], np.float32) / 255
    assert to_levels(image, case(clean, scale)).tolist() == [[[10, 12, 10, 11]]]


def test_channels_have_levels_of_their_own() -> None:
    maps = (Intensity(0.0, 10.0, 16), Intensity(100.0, 300.0, 16))
    clean = np.zeros((2, 1, 1), np.float32)
    image = np.full((2, 1, 1), 0.57, np.float32)
    assert to_levels(image, case(clean, *maps)).ravel().tolist() == [5, 214]


@pytest.mark.parametrize("maps", [(), (Intensity(0.0, 1.5),)])
def test_a_file_without_levels_is_refused(maps: Any) -> None:
    clean = np.zeros((1, 2, 2), np.float32)
    with pytest.raises(UserError, match=r"case a .*no levels"):
        round_to_levels(clean, case(clean, *maps))
