"""Any folder of images and masks: its cases, its fingerprint, its refusals."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.data import faults, load_dataset
from segbench.data.layouts.folder import Folder
from segbench.errors import UserError


def make(root: Path, count: int = 6, *, suffix: str = "png", ending: str = "") -> Path:
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(count):
        image = random.integers(0, 256, (12, 10), dtype=np.uint8)
        Image.fromarray(image).save(root / "images" / f"c{index}.{suffix}")
        mask = (image > 127).astype(np.uint8) * 255
        Image.fromarray(mask).save(root / "masks" / f"c{index}{ending}.png")
    return root


def test_cases_are_the_files_and_the_intensity_map_leads_back(tmp_path: Path) -> None:
    data = Folder(root=make(tmp_path))
    for split in data.splits:
        for entry in data.entries(split):
            case = data.load(entry.case_id)
            assert case.source is not None
            assert case.intensity is not None
            file = np.asarray(Image.open(case.source))
            (scale,) = case.intensity
            low, high = scale.low, scale.high
            np.testing.assert_array_equal(np.rint(low + case.image[0] * (high - low)), file)
            np.testing.assert_array_equal(case.labels, file > 127)
            assert case.image.shape == entry.shape


def test_splits_are_disjoint_and_complete(tmp_path: Path) -> None:
    data = Folder(root=make(tmp_path, 10))
    train, test = ({e.case_id for e in data.entries(s)} for s in ("train", "test"))
    assert train | test == {f"c{n}" for n in range(10)}
    assert not train & test


@pytest.mark.parametrize("ending", ["_mask", "_segmentation", "_Segmentation", "_seg", "_label"])
def test_masks_may_have_an_ending(tmp_path: Path, ending: str) -> None:
    assert len(Folder(root=make(tmp_path, ending=ending)).entries("train")) == 4


def test_size_and_channels_are_what_was_asked_for(tmp_path: Path) -> None:
    data = load_dataset("folder:size=16,channels=3", make(tmp_path))
    case = data.load("c0")
    assert case.image.shape == (3, 16, 16)
    assert case.labels.shape == (16, 16)
    assert "16 x 16" in data.resize_rule


def test_a_csv_splits_and_groups(tmp_path: Path) -> None:
    make(tmp_path, 4)
    rows = ["case_id,split,group", "c0,train,p", "c1,train,p", "c2,test,q", "c3,val,r"]
    (tmp_path / "splits.csv").write_text("\n".join(rows))
    data = load_dataset("folder:split=splits.csv", tmp_path)
    assert data.splits == ("train", "test", "val")
    assert [e.group_id for e in data.entries("train")] == ["p", "p"]
    with pytest.raises(UserError, match="unknown split 'tset'; did you mean 'test'"):
        data.entries("tset")


def test_the_fingerprint_follows_contents_and_not_the_place(tmp_path: Path) -> None:
    make(tmp_path / "a")
    first = Folder(root=tmp_path / "a").fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    assert Folder(root=tmp_path / "elsewhere").fingerprint() == first
    assert Folder(root=tmp_path / "a", size=16).fingerprint() != first
    mask = tmp_path / "elsewhere" / "masks" / "c3.png"
    pixels = np.array(Image.open(mask))
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(mask)
    assert Folder(root=tmp_path / "elsewhere").fingerprint() != first


def test_pictures_are_clipped_by_a_range_and_by_nothing_else(tmp_path: Path) -> None:
    assert Folder(root=make(tmp_path)).clipping is None
    clipping = Folder(root=tmp_path, range="10..90").clipping
    assert clipping
    assert (clipping.ends, clipping.clips_nothing) == ((10, 90), False)


def test_all_bad_files_are_named_at_once(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "images" / "c0.png").write_text("text")
    Image.new("L", (3, 3)).save(tmp_path / "masks" / "c1.png")
    (tmp_path / "masks" / "c2.png").unlink()
    (tmp_path / "images" / "c3.png").unlink()
    (tmp_path / "images" / "scan.dcm").write_bytes(b"x")
    (tmp_path / "images" / "scan.npz").write_bytes(b"x")
    Image.new("L", (10, 12)).save(tmp_path / "masks" / "c4.png", format="JPEG")
    with pytest.raises(UserError) as caught:
        Folder(root=tmp_path)
    for part in (
        "images/c0.png is not an image",
        "masks/c1.png is 3 x 3 pixels, its image 10 x 12",
        "images/c2.png has no mask",
        "masks/c3.png has no image",
        "images/scan.dcm is not read: --dataset dicom reads DICOM",
        "images/scan.npz is not of a kind that is read: .png .jpg",
        "masks/c4.png is a JPEG",
    ):
        assert part in str(caught.value)


def test_so_many_faults_are_named_and_the_rest_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "NAMED", 10)
    make(tmp_path, 14)
    for file in (tmp_path / "masks").iterdir():
        file.write_text("text")
    with pytest.raises(UserError, match="and 4 more"):
        Folder(root=tmp_path)


def test_no_root_a_missing_and_an_empty_one_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_CONFIG_DIR", str(tmp_path / "config"))
    with pytest.raises(UserError, match="--data-root"):
        load_dataset("folder")
    with pytest.raises(UserError, match="does not exist"):
        load_dataset("folder", tmp_path / "nowhere")
    with pytest.raises(UserError, match="images is missing"):
        load_dataset("folder", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match="holds no image files"):
        load_dataset("folder", tmp_path)


def test_gray_among_colour_is_refused_unless_channels_are_said(tmp_path: Path) -> None:
    make(tmp_path)
    Image.new("RGB", (10, 12), (9, 8, 7)).save(tmp_path / "images" / "c5.png")
    with pytest.raises(UserError, match=r"c5\.png has 3 channels, c0\.png has 1"):
        Folder(root=tmp_path)
    assert Folder(root=tmp_path, channels=1).load("c5").image.shape == (1, 12, 10)


def test_undecodable_and_strange_masks_are_found_before_training(tmp_path: Path) -> None:
    make(tmp_path)
    ramp = np.arange(120, dtype=np.uint8).reshape(12, 10)
    Image.fromarray(ramp).save(tmp_path / "masks" / "c2.png")
    with pytest.raises(UserError, match="distinct values"):
        _ = Folder(root=tmp_path).class_names


def test_an_unknown_case_and_two_masks_for_one_image_are_named(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match="unknown case 'c77'"):
        Folder(root=tmp_path).load("c77")
    shutil.copy(tmp_path / "masks" / "c1.png", tmp_path / "masks" / "c1_mask.png")
    with pytest.raises(UserError, match=r"images/c1\.png has two masks"):
        Folder(root=tmp_path)


def test_loading_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    data = Folder(root=make(tmp_path, suffix="jpg"), size=17)
    one, two = data.load("c1"), data.load("c1")
    assert one.image.tobytes() == two.image.tobytes()
    assert one.labels.tobytes() == two.labels.tobytes()
    elsewhere = pickle.loads(pickle.dumps(data))  # as a worker process gets it
    assert elsewhere.load("c1").image.tobytes() == one.image.tobytes()


def ignore_all(path: Path) -> None:
    Image.fromarray(np.full((12, 10), 7, np.uint8)).save(path)


def test_every_case_of_which_nothing_is_scored_is_named_at_once(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("c1", "c4"):
        ignore_all(tmp_path / "masks" / f"{name}.png")
    with pytest.raises(UserError) as caught:
        load_dataset("folder:ignore=7", tmp_path)
    for name in ("c1", "c4"):
        assert f"masks/{name}.png holds nothing but the ignored value 7" in str(caught.value)
    assert "c0" not in str(caught.value)


def test_a_case_that_loses_all_that_is_scored_later_is_named_where_it_is_read(
    tmp_path: Path,
) -> None:
    make(tmp_path)
    mask = np.full((12, 10), 7, np.uint8)
    mask[1, 0] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "c1.png")
    data = load_dataset("folder:ignore=7", tmp_path)
    assert (data.load("c1").labels != -100).sum() == 1
    small = load_dataset("folder:ignore=7,size=8", tmp_path)  # the nearest pixels are others
    with pytest.raises(UserError, match=r"masks/c1\.png holds nothing but the ignored value 7"):
        small.load("c1")


def test_the_tolerance_of_the_surface_dice_is_a_key(tmp_path: Path) -> None:
    make(tmp_path)
    plain, given = Folder(root=tmp_path), load_dataset("folder:nsd_tolerance=2.5", tmp_path)
    assert plain.load("c0").nsd_tolerance is None
    assert given.load("c0").nsd_tolerance == 2.5
    assert given.fingerprint() != plain.fingerprint()
    assert given.load("c0").sha256 == plain.load("c0").sha256
    for value in ("0", "-1"):
        with pytest.raises(UserError, match=f"nsd_tolerance={value} is not a distance above 0"):
            load_dataset(f"folder:nsd_tolerance={value}", tmp_path)
