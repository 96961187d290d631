"""nnU-Net's raw data sets: channels, regions, ignored label, folds, endings; the Decathlon."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.data import load_dataset
from segbench.data.rasters import read_image
from segbench.data.tiff_stacks import stack_bytes
from segbench.data.volume_files import open_volume
from segbench.data.volumes import inspect_volume, read_voxels
from segbench.errors import UserError
from segbench.export.image_files import read_change, write_image

nibabel = pytest.importorskip("nibabel")

RANDOM = np.random.default_rng(0)
SHAPE = (6, 7, 5)
AFFINE = np.diag([-0.5, 0.75, 2.0, 1.0])  # first axis to the left


def volume(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
        return
    if path.suffix == ".png":
        Image.fromarray(values[..., 0].astype(np.uint8)).save(path)
        return
    if path.suffix in (".tif", ".tiff"):
        path.write_bytes(stack_bytes(values.astype(np.uint16)))
        spacing = {"spacing": [2.0, 0.75, 0.5]}  # along Z, Y and X
        (path.parent / f"{path.stem.partition('_')[0]}.json").write_text(json.dumps(spacing))
        return
    if path.suffix == ".img":
        nibabel.save(nibabel.Nifti1Pair(values, AFFINE), path)
        return
    itk = pytest.importorskip("SimpleITK")
    image = itk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))  # to the left, front and head
    itk.WriteImage(image, str(path))


def raw(
    root: Path,
    *,
    ending: str = ".nii.gz",
    channels: int = 1,
    labels: Any = None,
    cases: int = 4,
    part: str = "Tr",
    top: int = 2,
) -> Path:
    for n in range(cases):
        for k in range(channels):
            values = RANDOM.integers(0, 200, SHAPE).astype(np.int16)
            volume(root / f"images{part}" / f"c{part}{n}_{k:04d}{ending}", values)
        mask = RANDOM.integers(0, top + 1, SHAPE).astype(np.uint8)
        volume(root / f"labels{part}" / f"c{part}{n}{ending}", mask)
    description = {
        "channel_names": {str(k): f"m{k}" for k in range(channels)},
        "labels": labels or {"background": 0, "a": 1, "b": 2},
        "file_ending": ending,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


ITK = [".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz"]
VOLUMES = [".nii.gz", ".nii", ".img", *ITK, ".tif", ".tiff"]


@pytest.mark.parametrize("ending", [*VOLUMES, ".png"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_ending_and_channel(ending: str, channels: int, tmp_path: Path) -> None:
    data = load_dataset("nnunet", raw(tmp_path, ending=ending, channels=channels))
    assert data.in_channels == channels
    assert data.class_names == ("background", "a", "b")
    case = data.load("cTr1")
    assert case.image.shape == (channels, *case.labels.shape)
    if ending != ".png":
        assert case.spacing == pytest.approx((0.5, 0.75, 2.0))


def test_one_volume_is_one_volume_in_every_format(tmp_path: Path) -> None:
    """NIfTI is right-anterior-superior, NRRD and MetaImage left-posterior-superior.

    GIPL and TIFF do not say which way the patient lies: to ITK's left, back and head, or as stored.
    """
    pytest.importorskip("SimpleITK")
    values = RANDOM.integers(0, 200, SHAPE).astype(np.int16)
    mask = RANDOM.integers(0, 3, SHAPE).astype(np.uint8)
    found = []
    for ending in VOLUMES:
        root = raw(tmp_path / ending[1:], ending=ending, cases=2)
        volume(root / "imagesTr" / f"cTr0_0000{ending}", values)
        volume(root / "labelsTr" / f"cTr0{ending}", mask)
        found.append(load_dataset("nnunet", root).load("cTr0"))
    for ending, other in zip(VOLUMES[1:], found[1:], strict=True):
        turn = np.s_[..., ::-1, :, :] if ending in (".tif", ".tiff") else np.s_[...]
        turn = np.s_[..., ::-1, :] if ending in (".gipl", ".gipl.gz") else turn
        np.testing.assert_array_equal(other.image, found[0].image[turn], err_msg=ending)
        np.testing.assert_array_equal(other.labels, found[0].labels[turn], err_msg=ending)
        assert other.spacing == pytest.approx(found[0].spacing)


@pytest.mark.parametrize("ending", VOLUMES)
def test_export_restores_the_units_and_reads_back(ending: str, tmp_path: Path) -> None:
    data = load_dataset("nnunet:window=20..180", raw(tmp_path, ending=ending))
    case = data.load("cTr0")
    noise = RANDOM.uniform(-8 / 255, 8 / 255, case.image.shape)
    image = np.clip(case.image + noise, 0, 1).astype(np.float32)
    path = write_image(tmp_path / "out", image, case)
    one_file = {".mhd": ".mha", ".nhdr": ".nrrd", ".img": ".nii"}
    assert path.name == f"cTr0{one_file.get(ending, ending)}"
    again = inspect_volume(path)
    assert again.spacing == pytest.approx(case.spacing)
    assert again.shape == case.labels.shape
    change = read_change(path, case)
    assert np.abs(change).max() <= 8 / 255
    assert np.abs(change - (image - case.image)).max() <= 1 / 160 + 1e-6


def test_slices_of_a_stack_are_written_as_stacks_of_one(tmp_path: Path) -> None:
    data = load_dataset("nnunet:mode=slices,window=0..200", raw(tmp_path, ending=".tif"))
    case = data.load("cTr0_z003")
    path = write_image(tmp_path / "out", case.image, case)
    assert not read_change(path, case).any()


def test_a_stack_says_its_spacing_or_is_taken_for_millimetres(tmp_path: Path) -> None:
    root = raw(tmp_path, ending=".tif")
    for path in (root / "labelsTr").glob("*.json"):
        path.unlink()  # that of the image stands for its labels
    assert load_dataset("nnunet", root).load("cTr0").spacing == (0.5, 0.75, 2.0)
    (root / "imagesTr" / "cTr1.json").unlink()
    data = load_dataset("nnunet", root)
    assert data.load("cTr1").spacing == (1, 1, 1)
    assert any(note.startswith("1 stacks have no spacing") for note in data.notes)
    for said in ('{"spacing": [1, 1]}', '{"spacing": [1, 0, 1]}', "[", '{"spacing": "abc"}', "{}"):
        (root / "imagesTr" / "cTr1.json").write_text(said)
        with pytest.raises(UserError, match=r"cTr1\.json holds no spacing: three lengths"):
            load_dataset("nnunet", root)


def _described(path: Path, text: str, pages: int) -> None:
    planes = [Image.fromarray(np.zeros((4, 5), np.uint8))] * pages
    planes[0].save(path, save_all=True, append_images=planes[1:], tiffinfo={270: text})


@pytest.mark.parametrize(
    ("text", "pages", "words"),
    [
        ("ImageJ=1.53\nimages=9\nslices=9\n", 1, "holds images=9, and has 1 pages"),
        (
            "ImageJ=1.53\nimages=6\nchannels=2\nslices=3\n",
            6,
            "holds channels=2 slices=3, and has 6 pages",
        ),
        ('{"shape": [9, 4, 5]}', 1, r"holds shape=\[9, 4, 5\], and has 1 pages"),
    ],
)
def test_planes_that_are_no_pages_are_not_passed_over(
    text: str, pages: int, words: str, tmp_path: Path
) -> None:
    """A large stack of ImageJ's has one page, and says how many images lie behind it."""
    _described(tmp_path / "a.tif", text, pages)
    with pytest.raises(UserError, match=words):
        open_volume(tmp_path / "a.tif")
    if pages == 1:
        with pytest.raises(UserError, match=words):
            read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("text", "pages"),
    [("ImageJ=1.53\nimages=3\nslices=3\n", 3), ("ImageJ=1.53\nimages=3\nchannels=3\n", 3),
     ('{"shape": [3, 4, 5]}', 3), ("a scan", 2), ('{"shape": [1, 4, 5]}', 1)],
)  # fmt: skip
def test_pages_that_are_the_planes_are_read(text: str, pages: int, tmp_path: Path) -> None:
    _described(tmp_path / "a.tif", text, pages)
    assert open_volume(tmp_path / "a.tif").shape == (5, 4, pages)


def test_pages_that_differ_or_are_in_colour_are_refused(tmp_path: Path) -> None:
    planes = [Image.fromarray(np.zeros((4, n), np.uint8)) for n in (5, 6)]
    planes[0].save(tmp_path / "a.tif", save_all=True, append_images=planes[1:])
    with pytest.raises(UserError, match="pages of different sizes or kinds"):
        open_volume(tmp_path / "a.tif")
    colour = Image.fromarray(np.zeros((4, 5, 3), np.uint8))
    colour.save(tmp_path / "b.tif", save_all=True, append_images=[colour])
    with pytest.raises(UserError, match="has pages in colour"):
        open_volume(tmp_path / "b.tif")


@pytest.mark.parametrize("ending", VOLUMES)
def test_a_file_that_is_cut_short_is_refused(ending: str, tmp_path: Path) -> None:
    volume(path := tmp_path / f"a{ending}", RANDOM.integers(0, 200, SHAPE).astype(np.int16))
    holder = next(iter(tmp_path.glob("a.*raw")), path)  # of the voxels
    whole = holder.read_bytes()
    for left in (len(whole) - 20, len(whole) // 2, 10):
        holder.write_bytes(whole[:left])
        with pytest.raises(UserError, match=path.name):
            read_voxels(path)


def test_a_header_without_its_voxels_is_not_passed_over(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        for n in range(2):
            values = np.broadcast_to(np.arange(5, dtype=np.int16) % 2, SHAPE)
            volume(tmp_path / name / f"c{n}.img", values)
    assert load_dataset("folder:mode=volumes", tmp_path).load("c1").spacing == (0.5, 0.75, 2.0)
    (tmp_path / "images" / "c1.img").unlink()
    with pytest.raises(UserError, match=r"c1\.hdr is not of a kind that is read"):
        load_dataset("folder:mode=volumes", tmp_path)


def test_a_picture_in_a_volumes_format_is_one_plane(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    plane = RANDOM.integers(0, 200, (7, 6)).astype(np.uint8)  # Y, X
    image = itk.GetImageFromArray(plane)
    image.SetSpacing((0.5, 0.75))
    itk.WriteImage(image, str(tmp_path / "a.mha"))
    header = inspect_volume(tmp_path / "a.mha")
    assert (header.shape, header.spacing) == ((6, 7, 1), (0.5, 0.75, 1.0))
    np.testing.assert_array_equal(read_voxels(tmp_path / "a.mha")[0, ::-1, ::-1, 0], plane.T)


def test_regions_and_the_ignored_label(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    data = load_dataset("nnunet", raw(tmp_path, labels=labels, top=4))
    assert data.class_names == ("background", "whole", "core", "enhancing")
    case = data.load("cTr0")
    stored = nibabel.as_closest_canonical(nibabel.load(tmp_path / "labelsTr" / "cTr0.nii.gz"))
    truth = np.asarray(stored.dataobj)
    assert case.regions
    for region, values in zip(case.regions, ([1, 2, 3], [2, 3], [3]), strict=True):
        np.testing.assert_array_equal(np.isin(case.labels, region), np.isin(truth, values))
    np.testing.assert_array_equal(case.labels == case.ignore_index, truth == 4)


def test_a_fold_is_read_where_nnunet_keeps_it(tmp_path: Path) -> None:
    root = raw(tmp_path / "nnUNet_raw" / "Dataset004_X")
    folds = tmp_path / "nnUNet_preprocessed" / "Dataset004_X" / "splits_final.json"
    folds.parent.mkdir(parents=True)
    folds.write_text(json.dumps([{"train": ["cTr0", "cTr2"], "val": ["cTr1"]}]))
    data = load_dataset("nnunet:split=fold:0", root)
    assert [e.case_id for e in data.entries("train")] == ["cTr0", "cTr2"]
    assert [e.case_id for e in data.entries("test")] == ["cTr1"]
    assert [e.case_id for e in data.entries("rest")] == ["cTr3"]
    for split, words in (("fold:7", "has no fold 7"), ("folds", "is not a fold")):
        with pytest.raises(UserError, match=words):
            load_dataset(f"nnunet:split={split}", root)
    folds.write_text(json.dumps([{"train": ["ghost"], "val": ["cTr1"]}]))
    with pytest.raises(UserError, match="names ghost"):
        load_dataset("nnunet:split=fold:0", root)


def test_a_test_part_with_labels_is_test_and_without_them_is_told_of(tmp_path: Path) -> None:
    raw(tmp_path, part="Ts", cases=2)
    raw(tmp_path)
    data = load_dataset("nnunet", tmp_path)
    assert [e.case_id for e in data.entries("test")] == ["cTs0", "cTs1"]
    for path in (tmp_path / "labelsTs").iterdir():
        path.unlink()
    (tmp_path / "labelsTs").rmdir()
    notes = load_dataset("nnunet", tmp_path).notes
    assert "2 cases of imagesTs/ have no labels and are left out" in notes


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    root = raw(tmp_path / "a")
    (root / "labelsTr" / "cTr1.nii.gz").unlink()
    volume(root / "labelsTr" / "x.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(UserError, match=r"cTr1_0000\.nii\.gz has no labels.*x\.nii\.gz has no im"):
        load_dataset("nnunet", root)
    root = raw(tmp_path / "b", channels=2)
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(description | {"channel_names": {"0": "x"}}))
    with pytest.raises(UserError, match=r"has 2 channels, dataset\.json names 1"):
        load_dataset("nnunet", root)
    (root / "dataset.json").write_text(json.dumps(description | {"file_ending": ".npz"}))
    with pytest.raises(UserError, match=r"file_ending is '\.npz'"):
        load_dataset("nnunet", root)


def test_the_decathlon_may_have_gaps_and_regions(tmp_path: Path) -> None:
    for n in range(2):
        volume(tmp_path / "imagesTr" / f"v{n}.nii.gz", RANDOM.integers(0, 9, SHAPE).astype("i2"))
        mask = RANDOM.choice([0, 1, 4], SHAPE).astype(np.uint8)
        volume(tmp_path / "labelsTr" / f"v{n}.nii.gz", mask)
    labels: Any = {"0": "background", "1": "oedema", "4": "tumour"}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    data = load_dataset("msd:mode=volumes", tmp_path)
    assert getattr(data, "splits_by_rule", False)  # so that attack takes every case
    case = data.load("v0")
    assert case.class_names == ("background", "oedema", "tumour")
    assert set(np.unique(case.labels)) == {0, 1, 2}
    labels = {"background": 0, "whole": [1, 4], "core": 4}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert load_dataset("msd:mode=volumes", tmp_path).load("v0").regions == ((1, 2), (2,))


def test_without_simpleitk_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    raw(tmp_path)
    (tmp_path / "imagesTr" / "v.nrrd").write_bytes(b"NRRD0004\n")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(UserError, match=r"pip install 'segbench\[itk\]'"):
        open_volume(tmp_path / "imagesTr" / "v.nrrd")
