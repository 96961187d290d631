"""Arrays as a data set: what a case is, and a fingerprint that sees every pixel and name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segbench.data.in_memory import InMemory
from segbench.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 2, 8, 8), dtype=np.float32)
LABELS = RNG.integers(0, 3, (3, 8, 8))


def test_a_case_is_what_was_given() -> None:
    data = InMemory(
        IMAGES, LABELS, class_names=["background", "liver", "spleen", "kidney"],
        case_ids=["a", "b", "c"], group_ids=["p", "p", "q"], spacing=(0.5, 1), name="abdomen",
    )  # fmt: skip
    case = data.load("b")
    np.testing.assert_array_equal(case.image, IMAGES[1])
    np.testing.assert_array_equal(case.labels, LABELS[1])
    assert (case.image.dtype, case.labels.dtype) == (np.float32, np.int64)
    assert (case.group_id, case.spacing, case.class_names[3]) == ("p", (0.5, 1.0), "kidney")
    assert [(e.case_id, e.group_id, e.shape) for e in data.entries("test")] == [
        ("a", "p", (2, 8, 8)), ("b", "p", (2, 8, 8)), ("c", "q", (2, 8, 8)),
    ]  # fmt: skip
    assert (data.in_channels, data.spatial_dims) == (2, 2)
    assert "8 x 8" in data.resize_rule


def test_the_cases_stay_as_they_were_given() -> None:
    images, labels = torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.uint8)
    data = InMemory(images, labels)
    kept = images.clone()
    images += 1
    labels += 1
    np.testing.assert_array_equal(data.load("0001").image, kept[1].numpy())
    assert data.load("0000").labels.max() == 0


def changed(images: Any, index: tuple[int, ...], value: Any) -> Any:
    other = images.copy()
    other[index] = value
    return other


def test_the_fingerprint_sees_every_pixel_and_name_and_nothing_else() -> None:
    first = InMemory(IMAGES, LABELS).fingerprint()
    assert InMemory(torch.from_numpy(IMAGES), LABELS.astype("uint8")).fingerprint() == first
    assert InMemory(IMAGES, LABELS, name="other").fingerprint() == first
    others = [
        InMemory(changed(IMAGES, (2, 1, 7, 7), 0.5), LABELS),
        InMemory(IMAGES, changed(LABELS, (2, 7, 7), (LABELS[2, 7, 7] + 1) % 3)),
        InMemory(IMAGES.reshape(3, 1, 16, 8), LABELS.repeat(2, 1)),
        InMemory(IMAGES, LABELS, ignore_index=0),
        InMemory(IMAGES, LABELS, spacing=(1, 2)),
        InMemory(IMAGES, LABELS, case_ids="abc"),
        InMemory(IMAGES, LABELS, group_ids="ppq"),
        InMemory(IMAGES, LABELS).with_classes(4),
    ]
    assert len({first, *(data.fingerprint() for data in others)}) == len(others) + 1


def test_more_classes_than_the_labels_hold() -> None:
    data = InMemory(IMAGES, LABELS)
    assert data.class_names == ("background", "class 1", "class 2")
    assert data.with_classes(5).class_names[-1] == "class 4"
    assert data.class_names == ("background", "class 1", "class 2")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"class_names": ["background", "liver"]},
            "labels hold 2, but there are 2 classes",
        ),
        ({"class_names": ["liver"]}, "expected two names or more, background first"),
        ({"class_names": "liver"}, "expected two names or more"),
        ({"case_ids": ["a", "b"]}, "case_ids holds 2 names for 3 images"),
        ({"case_ids": ["a", "b", "a"]}, "case_ids holds a name twice"),
        ({"group_ids": ["a"]}, "group_ids holds 1 names for 3 images"),
        ({"spacing": (1,)}, "expected 2 numbers above 0"),
        ({"spacing": (1, 0)}, "expected 2 numbers above 0"),
        ({"name": "my data"}, "name = 'my data'; expected letters"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        InMemory(IMAGES, LABELS, **given)
    assert words in str(caught.value)


def test_unknown_cases_and_splits_are_refused() -> None:
    data = InMemory(IMAGES, LABELS)
    with pytest.raises(UserError, match="unknown case '3'"):
        data.load("3")
    with pytest.raises(UserError, match="no split 'tset'; did you mean 'test'"):
        data.entries("tset")
    with pytest.raises(UserError, match="are all of the split test"):
        data.entries("train")
