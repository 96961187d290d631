"""Mask values to classes: known codings are recognised, everything else is named or refused."""

from pathlib import Path

import numpy as np
import pytest

from segbench.data.coding import COLOUR, IGNORE_INDEX, Coding, distinct, infer_coding
from segbench.errors import UserError

MASK = Path("masks/m.png")


@pytest.mark.parametrize(
    ("values", "names", "targets"),
    [
        ({0, 255}, ("background", "foreground"), {0: 0, 255: 1}),
        ({255}, ("background", "foreground"), {0: 0, 255: 1}),
        ({0, 1}, ("background", "foreground"), {0: 0, 1: 1}),
        ({0, 1, 2, 3}, ("background", "class 1", "class 2", "class 3"), {0: 0, 1: 1, 2: 2, 3: 3}),
        ({0, 150, 200}, ("background", "value 150", "value 200"), {0: 0, 150: 1, 200: 2}),
        ({0, COLOUR + 0xFF0000}, ("background", "colour #ff0000"), {0: 0, COLOUR + 0xFF0000: 1}),
    ],
)
def test_values_are_coded_as_people_code_them(
    values: set[int], names: tuple[str, ...], targets: dict[int, int]
) -> None:
    coding = infer_coding(values, (), None)
    assert (coding.names, dict(coding.values)) == (names, targets)


def test_given_names_fix_the_number_of_classes_even_if_one_never_occurs() -> None:
    coding = infer_coding({0, 2}, ("background", "a", "b"), None)
    assert dict(coding.values) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(UserError, match="names 3 classes, but the masks have 4"):
        infer_coding({0, 1, 2, 3}, ("background", "a", "b"), None)


def test_one_value_and_too_many_values_are_refused() -> None:
    with pytest.raises(UserError, match="only the value 0"):
        infer_coding({0}, (), None)
    with pytest.raises(UserError, match="21 distinct values"):
        infer_coding(set(range(0, 42, 2)), (), None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_encoding_maps_every_pixel_and_ignores_the_ignored(dtype: type) -> None:
    raw = np.random.default_rng(0).choice([0, 100, 250], (11, 13)).astype(dtype)
    coding = infer_coding({0, 100, 250}, (), ignore=250)
    labels = coding.encode(raw, MASK)
    assert labels.dtype == np.int64
    assert (coding.ignore_index, len(coding.names)) == (IGNORE_INDEX, 2)
    np.testing.assert_array_equal(labels == IGNORE_INDEX, raw == 250)
    np.testing.assert_array_equal(labels == 1, raw == 100)
    assert distinct(raw) == {0, 100, 250}


def test_a_value_that_the_coding_lacks_is_named_with_the_file() -> None:
    coding = Coding(("background", "lesion"), ((0, 0), (255, 1)))
    with pytest.raises(UserError, match=r"masks/m\.png holds the value 7, 9, expected only 0, 255"):
        coding.encode(np.array([[0, 7], [9, 255]], dtype=np.uint8), MASK)
