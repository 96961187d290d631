"""ISIC 2016: two layouts, one data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.data.layouts.isic2016 import ISIC2016, ORIGINAL, PLAIN
from segbench.errors import UserError


def make(root: Path, layout: dict[str, tuple[str, str]], ending: str) -> Path:
    random = np.random.default_rng(0)
    for split, (images, masks) in layout.items():
        (root / images).mkdir(parents=True)
        (root / masks).mkdir(parents=True)
        for index in range(3 if split == "train" else 2):
            stem = f"ISIC_{index + 10 * (split == 'test'):07d}"
            size = (20 + index, 30)
            colours = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(colours).save(root / images / f"{stem}.jpg")
            mask = random.integers(0, 2, size, dtype=np.uint8) * 255
            Image.fromarray(mask).save(root / masks / f"{stem}{ending}.png")
    return root


def test_the_original_and_the_plain_layout_are_the_same_data(tmp_path: Path) -> None:
    one = ISIC2016(root=make(tmp_path / "a", ORIGINAL, "_Segmentation"), size=16)
    two = ISIC2016(root=make(tmp_path / "b", PLAIN, ""), size=16)
    assert one.fingerprint() == two.fingerprint()
    assert [len(one.entries(split)) for split in ("train", "test")] == [3, 2]
    for entry in one.entries("train"):
        assert entry.shape == (3, 16, 16)
        np.testing.assert_array_equal(one.load(entry.case_id).image, two.load(entry.case_id).image)


def test_size_0_keeps_every_file_as_it_is(tmp_path: Path) -> None:
    data = ISIC2016(root=make(tmp_path, PLAIN, ""), size=0)
    assert [e.shape for e in data.entries("train")] == [(3, 20, 30), (3, 21, 30), (3, 22, 30)]


def test_a_mask_value_that_the_challenge_lacks_is_refused(tmp_path: Path) -> None:
    make(tmp_path, PLAIN, "")
    mask = tmp_path / "isic2016_train" / "masks" / "ISIC_0000001.png"
    Image.new("L", (30, 21), 128).save(mask)
    with pytest.raises(UserError, match=r"masks/ISIC_0000001\.png holds the value 128"):
        ISIC2016(root=tmp_path).load("ISIC_0000001")


def test_one_half_is_a_data_set_and_half_of_a_half_or_nothing_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no ISIC 2016; expected"):
        ISIC2016(root=tmp_path)
    make(tmp_path, {"test": PLAIN["test"]}, "")
    alone = ISIC2016(root=tmp_path)
    assert (len(alone.entries("train")), alone.in_channels) == (0, 3)
    assert alone.entries("test")
    (tmp_path / "isic2016_train" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match="isic2016_train/masks is missing"):
        ISIC2016(root=tmp_path)


def test_one_case_in_both_splits_is_refused(tmp_path: Path) -> None:
    make(tmp_path, PLAIN, "")
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        file = tmp_path / "isic2016_test" / folder / f"ISIC_0000010.{suffix}"
        file.rename(file.with_stem("ISIC_0000000"))
    with pytest.raises(UserError, match="both the case 'ISIC_0000000'"):
        ISIC2016(root=tmp_path)
