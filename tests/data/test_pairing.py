"""Which mask belongs to which image: by names as people give them, patterns, or a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.api import Dataset
from segbench.data import load_dataset
from segbench.data.faults import Faults
from segbench.data.pairing import find_pairs
from segbench.data.patterns import structure_names
from segbench.errors import UserError

RANDOM = np.random.default_rng(0)


def save(path: Path, values: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if values is None:
        values = RANDOM.integers(0, 2, (8, 9)) * 255
    Image.fromarray(values.astype(np.uint8)).save(path)


def files(root: Path, images: Sequence[str], masks: Sequence[str]) -> Path:
    for name in images:
        save(root / "images" / name)
    for name in masks:
        save(root / "masks" / name)
    return root


PAIRED = {
    "as they stand": ("c1.png", "c1.png", "c1"),
    "nnU-Net's channel": ("c1_0000.png", "c1.png", "c1"),
    "DRIVE": ("21_training.tif", "21_manual1.gif", "21_training"),
    "before": ("1.png", "mask_1.png", "1"),
    "behind": ("ISIC_1.jpg", "ISIC_1_Segmentation.png", "ISIC_1"),
    "case": ("IMG_1.png", "img_1.png", "IMG_1"),
    "dots": ("1.2.840.7.png", "1.2.840.7.tif", "1.2.840.7"),
    "unicode": ("Ko\u0308rper.png", "K\u00f6rper.png", "K\u00f6rper"),
}


@pytest.mark.parametrize("kind", PAIRED)
def test_names_as_people_give_them(kind: str, tmp_path: Path) -> None:
    image, mask, case = PAIRED[kind]
    other = [name.replace("1", "2").replace("rper", "rpus") for name in (image, mask)]
    files(tmp_path, [image, other[0]], [mask, other[1]])
    faults = Faults(tmp_path)
    pairs = find_pairs(tmp_path / "images", tmp_path / "masks", faults)
    assert faults.found == []
    assert case in {pair.case_id for pair in pairs}
    assert {pair.image.name: pair.mask.name for pair in pairs}[image] == mask
    assert len(pairs) == 2


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        (["a.png", "A.png"], ["a_mask.png"], "a_mask.png may belong to A or to a"),
        (["a.png"], ["a.png", "a_mask.png"], "a.png has two masks, a.png and a_mask.png"),
        (["a.png"], ["b.png"], "b.png has no image.*a.png has no mask"),
        (["a.png"], ["a_left.png", "a_left_mask.png"], "a.png has two masks"),
        (["a.png", "a.tif"], ["a.png"], "a.tif has the same name as a.png"),
    ],
)
def test_what_can_be_paired_in_two_ways_or_none_is_refused(
    images: list[str], masks: list[str], words: str, tmp_path: Path
) -> None:
    files(tmp_path, images, masks)
    faults = Faults(tmp_path)
    find_pairs(tmp_path / "images", tmp_path / "masks", faults)
    with pytest.raises(UserError, match=words):
        faults.raise_any()


def test_channels_of_their_own_are_one_image(tmp_path: Path) -> None:
    files(tmp_path, [f"c{n}_000{k}.png" for n in (1, 2) for k in range(3)], ["c1.png", "c2.png"])
    data = load_dataset("folder", tmp_path)
    assert data.in_channels == 3
    case = data.load("c1")
    for k in range(3):
        own = np.asarray(Image.open(tmp_path / "images" / f"c1_000{k}.png")) / np.float32(255)
        np.testing.assert_array_equal(case.image[k], own)


@pytest.mark.parametrize("ending", ["", "_mask"])
def test_a_camera_s_numbers_are_no_channels(ending: str, tmp_path: Path) -> None:
    names = [f"IMG_000{n}" for n in range(3)]
    masks = [f"{name}{ending}.png" for name in names]
    files(tmp_path, [f"{name}.png" for name in names], masks)
    data = load_dataset("folder", tmp_path)
    found = [e.case_id for split in data.splits for e in data.entries(split)]
    assert sorted(found) == names
    assert data.in_channels == 1


def test_left_and_right_are_one_structure_unless_masks_keeps_them_apart(tmp_path: Path) -> None:
    left, right = np.zeros((8, 9)), np.zeros((8, 9))
    left[1:4, 1:4], right[1:4, 6:8] = 255, 255
    for n in range(2):
        files(tmp_path, [f"{n}.png"], [])
        save(tmp_path / "masks" / f"{n}_left.png", left)
        save(tmp_path / "masks" / f"{n}_right.png", right)
    together = load_dataset("folder", tmp_path)
    assert together.class_names == ("background", "foreground")
    np.testing.assert_array_equal(together.load("0").labels, (left + right) > 0)
    assert any("taken together" in note for note in together.notes)
    apart = load_dataset("folder:masks={}_left.png+{}_right.png,images=*.png", tmp_path)
    assert apart.class_names == ("background", "left", "right")
    np.testing.assert_array_equal(apart.load("0").labels, (left > 0) + 2 * (right > 0))


@pytest.mark.parametrize("option", ["values=255+0", "regions=both={255}", "ignore=7", "rois=7"])
@pytest.mark.parametrize("kind", ["sides", "patterns"])
def test_what_values_mean_is_refused_where_each_structure_has_a_file(
    option: str, kind: str, tmp_path: Path
) -> None:
    """It was passed over: black on white was attacked and scored the wrong way round."""
    files(tmp_path, ["0.png", "1.png"], [f"{n}_{side}.png" for n in "01" for side in "lr"])
    spec = {"sides": "folder", "patterns": "folder:images=*.png,masks={}_l.png+{}_r.png"}[kind]
    name = option.partition("=")[0]
    assert load_dataset(spec, tmp_path).class_names[0] == "background"
    with pytest.raises(UserError, match=f"{name}=.* cannot be obeyed: every structure has a mask"):
        load_dataset(f"{spec}{',' if ':' in spec else ':'}{option}", tmp_path)


def test_structures_that_overlap_are_regions(tmp_path: Path) -> None:
    disc, cup = np.zeros((8, 9)), np.zeros((8, 9))
    disc[1:6, 1:6], cup[2:4, 2:8] = 1, 1
    for n in range(2):
        save(tmp_path / "images" / f"{n}.png")
        save(tmp_path / "disc" / f"{n}.png", disc)
        save(tmp_path / "cup" / f"{n}.png", cup)
    data = load_dataset("folder:images=*.png,masks=disc/{}.png+cup/{}.png", tmp_path)
    assert data.class_names == ("background", "disc", "cup")
    case = data.load("0")
    assert case.regions
    for region, truth in zip(case.regions, (disc, cup), strict=True):
        np.testing.assert_array_equal(np.isin(case.labels, region), truth == 1)


def test_structures_are_called_what_tells_them_apart() -> None:
    assert structure_names("{}_left.png+{}_right.png") == ("left", "right")
    assert structure_names("a/left lung/{}.gif+a/heart/{}.gif") == ("left lung", "heart")
    assert structure_names("{}_manual1.gif") == ()


def test_patterns_pair_and_say_what_is_left_over(tmp_path: Path) -> None:
    files(tmp_path, ["21_training.png", "22_training.png", "note.png"], ["21_m.png", "22_m.png"])
    save(tmp_path / "masks" / "other.png")
    data = load_dataset("folder:images=*_training.png,masks={}_m.png", tmp_path)
    assert [e.case_id for e in data.entries("test")] + [
        e.case_id for e in data.entries("train")
    ] in (["21_training", "22_training"], ["22_training", "21_training"])
    assert "1 files or folders in images/ do not match images=*_training.png" in data.notes
    assert "1 files in masks/ belong to no image" in data.notes
    for spec, words in (
        ("images=*_training.png,masks={}_n.png", r"21_n\.png is not there, and 21_training"),
        ("images=train.png,masks={}_m.png", "is not a pattern"),
        ("images=*_training.png,masks=m.png", "is not a pattern of masks"),
        ("images=*_x.png,masks={}_m.png", "matches no file"),
    ):
        with pytest.raises(UserError, match=words):
            load_dataset(f"folder:{spec}", tmp_path)


def test_files_in_folders_within_are_told_of(tmp_path: Path) -> None:
    files(tmp_path, ["a.png", "b.png"], ["a.png", "b.png"])
    save(tmp_path / "images" / "more" / "c.png")
    notes = load_dataset("folder", tmp_path).notes
    assert "1 files in folders within images/ are left out" in notes
    assert any(note.startswith("masks: of 2 files") for note in notes)


def test_a_table_of_paths_says_everything(tmp_path: Path) -> None:
    for n in range(3):
        save(tmp_path / "x" / f"{n}_t1.png")
        save(tmp_path / "x" / f"{n}_t2.png")
        save(tmp_path / "y" / f"m{n}.png")
    rows = [
        f"x/{n}_t1.png;x/{n}_t2.png,y/m{n}.png,p{n // 2},{'test' if n else 'train'},{n}"
        for n in range(3)
    ]
    table = tmp_path / "cases.csv"
    table.write_text("image,mask,patient,split,note\n" + "\n".join(rows))
    with pytest.raises(UserError, match="puts the group p0 in test and train"):
        load_dataset("folder:table=cases.csv", tmp_path)
    table.write_text("image,mask,patient,split,note\n" + "\n".join(rows).replace("train", "test"))
    data = load_dataset("folder:table=cases.csv", tmp_path)
    assert data.in_channels == 2
    assert [(e.case_id, e.group_id) for e in data.entries("test")] == [
        ("0_t1", "p0"),
        ("1_t1", "p0"),
        ("2_t1", "p1"),
    ]
    assert data.entries("train") == []
    assert "cases.csv: the columns note are not looked at" in data.notes
    table.write_text("image,mask\nx/0_t1.png,y/m0.png\nx/9.png,y/m1.png\n")
    with pytest.raises(UserError, match=r"x/9\.png is named in line 3 of cases\.csv and is not"):
        load_dataset("folder:table=cases.csv", tmp_path)


def test_a_region_of_what_counts_is_ignored_outside(tmp_path: Path) -> None:
    files(tmp_path, ["1_training.png", "2_training.png"], ["1_manual1.png", "2_manual1.png"])
    inside = np.zeros((8, 9))
    inside[2:6, 3:8] = 255
    for n in (1, 2):
        save(tmp_path / "fov" / f"{n}_training_mask.png", inside)
    case = load_dataset("folder:rois=fov", tmp_path).load("1_training")
    assert case.valid is not None
    np.testing.assert_array_equal(case.valid, inside > 0)
    assert (case.labels[~case.valid] == case.ignore_index).all()
    assert (case.labels[case.valid] >= 0).all()
    plain = load_dataset("folder", tmp_path).load("1_training")
    assert plain.valid is None
    assert plain.sha256 != case.sha256


def test_a_mask_value_can_say_what_does_not_count(tmp_path: Path) -> None:
    for n in range(2):
        files(tmp_path, [f"{n}.png"], [])
        save(tmp_path / "masks" / f"{n}.png", np.arange(72).reshape(8, 9) % 3)
    assert load_dataset("folder:ignore=2", tmp_path).load("0").valid is None  # changed there too
    case = load_dataset("folder:rois=2", tmp_path).load("0")
    raw = np.arange(72).reshape(8, 9) % 3
    assert case.valid is not None
    np.testing.assert_array_equal(case.valid, raw != 2)
    np.testing.assert_array_equal(case.labels, np.where(raw == 2, case.ignore_index, raw))


@pytest.mark.parametrize("spec", ["ignore=1,rois=2", "values=v.toml,rois=2", "values=v.csv,rois=2"])
def test_what_is_ignored_is_attacked_and_what_is_outside_is_not(spec: str, tmp_path: Path) -> None:
    """Whoever ignores a value: it was kept from attacks where a file did."""
    raw = np.arange(72).reshape(8, 9) % 4
    for n in range(2):
        files(tmp_path, [f"{n}.png"], [])
        save(tmp_path / "masks" / f"{n}.png", raw)
    (tmp_path / "v.toml").write_text("ignore = [1]\n[classes]\nbackground = 0\na = 3\n")
    (tmp_path / "v.csv").write_text("value,class\n0,background\n3,a\n1,ignore\n")
    case = load_dataset(f"folder:{spec}", tmp_path).load("0")
    assert case.valid is not None
    np.testing.assert_array_equal(case.valid, raw != 2)
    assert ((case.labels == case.ignore_index) == np.isin(raw, (1, 2))).all()


def test_one_value_is_either_ignored_or_outside(tmp_path: Path) -> None:
    files(tmp_path, ["0.png"], ["0.png"])
    (tmp_path / "v.toml").write_text("ignore = [7]\n[classes]\nbackground = 0\na = 255\n")
    for spec, words in (
        ("ignore=7,rois=7", "ignore=7 and rois=7 both; give one of the two"),
        ("values=v.toml,rois=7", "values= gives 7 two meanings"),
    ):
        with pytest.raises(UserError, match=words):
            load_dataset(f"folder:{spec}", tmp_path)


@pytest.mark.parametrize("spec", ["rois=fov", "rois=fov,ignore=7", "rois=7"])
def test_images_that_nothing_of_is_valid_are_named_at_once(spec: str, tmp_path: Path) -> None:
    """With what marks them: it was the mask, and values that it does not hold."""
    empty = {"b.png", "c.png"}
    for name in ("a.png", "b.png", "c.png"):
        files(tmp_path, [name], [])
        save(tmp_path / "fov" / name, np.full((8, 9), 255 * (name not in empty)))
        outside = spec == "rois=7" and name in empty
        save(tmp_path / "masks" / name, np.full((8, 9), 7) if outside else np.eye(8, 9))
    folder = "masks" if spec == "rois=7" else "fov"
    words = "; ".join(rf"{folder}/{name} marks nothing as valid" for name in sorted(empty))
    with pytest.raises(UserError, match=f"{words}$"):
        load_dataset(f"folder:{spec}", tmp_path)


def test_an_image_that_is_ignored_wherever_it_is_valid_is_named(tmp_path: Path) -> None:
    mask, inside = np.eye(8, 9), np.zeros((8, 9))
    inside[:, 5:] = 255
    for name in ("a.png", "b.png"):
        files(tmp_path, [name], [])
        save(tmp_path / "fov" / name, inside)
        save(tmp_path / "masks" / name, np.where(inside > 0, 7, mask) if name == "b.png" else mask)
    words = r"masks/b\.png holds nothing but the ignored value 7 within its valid region$"
    with pytest.raises(UserError, match=words):
        load_dataset("folder:rois=fov,ignore=7", tmp_path)


def test_a_table_gives_every_case_one_region_or_none_any(tmp_path: Path) -> None:
    """Of several the first was taken, whether or not the rest were there."""
    files(tmp_path, ["0.png", "1.png"], ["0.png", "1.png"])
    for n in range(2):
        save(tmp_path / "fov" / f"{n}.png", np.eye(8, 9))
    table = tmp_path / "cases.csv"

    def load(*rois: str) -> Dataset:
        rows = [f"images/{n}.png,masks/{n}.png,{roi}\n" for n, roi in enumerate(rois)]
        table.write_text("image,mask,roi\n" + "".join(rows))
        return load_dataset("folder:table=cases.csv", tmp_path)

    assert load("fov/0.png", "fov/1.png").load("0").valid is not None
    assert load("", "").load("0").valid is None
    words = r"line 3 of .*cases\.csv gives 2 files as roi; expected one"
    with pytest.raises(UserError, match=words):
        load("fov/0.png", "fov/1.png;fov/absent.png")
    with pytest.raises(UserError, match=r"cases\.csv gives no roi to 1$"):
        load("fov/0.png", "")
