"""NIfTI: canonical axes, percentiles, slices and volumes, refusals."""

import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from segbench.data import load_dataset, volumes
from segbench.data.faults import BadFileError
from segbench.data.layouts.folder import Folder
from segbench.data.layouts.msd import MSD
from segbench.data.volume_cache import VolumeCache
from segbench.data.volumes import inspect_volume, read_voxels
from segbench.errors import UserError
from segbench.networks.met import Met, clipped_data

LPS = np.diag([-2.0, -3.0, 4.0, 1.0])
TURNED = np.array([[0, 0, 4.0, 1], [-2.0, 0, 0, 2], [0, 3.0, 0, 3], [0, 0, 0, 1]])  # A, S, R
RANDOM = np.random.default_rng(0)


def write(path: Path, array: np.ndarray, affine: np.ndarray = LPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def make(root: Path, count: int = 3, affine: np.ndarray = LPS, **folders: str) -> Path:
    images, masks = folders.get("images", "images"), folders.get("masks", "masks")
    for index in range(count):
        voxels = (RANDOM.random((6, 7, 5)) * 1000 * (index + 1)).astype(np.float32)
        labels = RANDOM.integers(0, 3, (6, 7, 5)).astype(np.uint8)
        write(root / images / f"v{index}.nii.gz", voxels, affine)
        write(root / masks / f"v{index}.nii.gz", labels, affine)
    return root


@pytest.mark.parametrize("affine", [np.eye(4), LPS, TURNED])
def test_voxels_are_canonical(tmp_path: Path, affine: Any) -> None:
    stored = RANDOM.random((4, 5, 6)).astype(np.float32)
    path = write(tmp_path / "a.nii.gz", stored, affine)
    voxels = read_voxels(path)[0]
    reference = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(voxels, np.asarray(reference.dataobj))
    header = inspect_volume(path)
    assert header.shape == voxels.shape
    np.testing.assert_allclose(header.spacing, reference.header.get_zooms())


def test_slices_are_a_group_and_stack_to_the_volume(tmp_path: Path) -> None:
    make(tmp_path)
    slices = Folder(root=tmp_path, mode="slices")
    whole = Folder(root=tmp_path, mode="volumes")
    assert (slices.spatial_dims, whole.spatial_dims) == (2, 3)
    entries = [e for split in slices.splits for e in slices.entries(split)]
    mine = [e for e in entries if e.group_id == "v1"]
    assert len(mine) == 5
    volume = whole.load("v1")
    assert volume.affine is not None
    np.testing.assert_array_equal(volume.affine, LPS)
    for depth, entry in enumerate(mine):
        case = slices.load(entry.case_id)
        np.testing.assert_array_equal(case.image, volume.image[..., depth])
        np.testing.assert_array_equal(case.labels, volume.labels[..., depth])
        assert case.spacing == (2.0, 3.0)
        assert case.intensity == volume.intensity
        assert (case.depth, volume.depth) == (depth, None)
    groups = [{e.group_id for e in slices.entries(s)} for s in ("train", "test")]
    assert not groups[0] & groups[1]


def test_percentiles_become_0_and_1_and_the_map_leads_back(tmp_path: Path) -> None:
    make(tmp_path)
    case = Folder(root=tmp_path, mode="volumes", lower=2, upper=98).load("v2")
    voxels = read_voxels(tmp_path / "images" / "v2.nii.gz")
    low, high = np.percentile(voxels, [2, 98])
    assert case.intensity is not None
    (scale,) = case.intensity
    assert (scale.low, scale.high) == pytest.approx((low, high))
    restored = low + case.image.astype(np.float64) * (high - low)
    np.testing.assert_allclose(restored, np.clip(voxels, low, high), rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("empty", [0.1, 0.9])
@pytest.mark.parametrize("least", [0, -30])
def test_from_0_to_100_nothing_is_clipped_however_empty_a_volume_is(
    empty: float, least: int, tmp_path: Path
) -> None:
    make(tmp_path)
    voxels = RANDOM.integers(200, 900, (10, 10, 10)).astype(np.int16)
    voxels[RANDOM.random(voxels.shape) < empty] = 0
    voxels[0, 0, 0] = least
    write(tmp_path / "images" / "v0.nii.gz", voxels)
    write(tmp_path / "masks" / "v0.nii.gz", (voxels > 0).astype(np.uint8))
    case = load_dataset("folder:mode=volumes,lower=0,upper=100", tmp_path).load("v0")
    whole = Met(case, canonical=True).in_units(torch.from_numpy(case.image)).numpy()[0]
    stored = read_voxels(tmp_path / "images" / "v0.nii.gz")[0]
    np.testing.assert_allclose(whole, stored, atol=1e-3)
    np.testing.assert_array_equal(whole == 0, stored == 0)  # networks leave out what is 0


@pytest.mark.parametrize(
    ("options", "seen", "words"),
    [
        ("lower=0,upper=100", None, ()),
        ("lower=0,upper=100", (-20, 140), ()),
        ("lower=0", None, ("percentiles 0 and 99.5", "needs all values of the files")),
        ("", (-20, 140), ("percentiles 0.5 and 99.5", "needs -20 to 140")),
        ("window=-100..400", (-20, 140), ()),
        ("range=-100..400", (-20, 140), ()),
        ("window=0..400", (-20, 140), ("the window 0..400", "needs -20 to 140")),
        ("range=0..400,lower=0,upper=100", None, ("the window 0..400", "all values")),
    ],
)
@pytest.mark.parametrize("mode", ["volumes", "slices"])
def test_what_is_clipped_is_said_and_nothing_else(
    options: str, seen: Any, words: tuple[str, ...], mode: str, tmp_path: Path
) -> None:
    dataset = load_dataset(f"folder:mode={mode},{options}".rstrip(","), make(tmp_path))
    said = " ".join(clipped_data(dataset, "it", seen))
    assert bool(said) == bool(words)
    assert all(part in said for part in words)


def test_a_constant_volume_says_nothing_of_its_scale(tmp_path: Path) -> None:
    make(tmp_path)
    write(tmp_path / "images" / "v0.nii.gz", np.full((6, 7, 5), 5, np.int16))
    data = load_dataset("folder:mode=volumes", tmp_path)
    with pytest.raises(UserError, match=r"v0\.nii\.gz holds nothing but the value 5; .*window="):
        data.load("v0")
    assert (
        load_dataset("folder:mode=volumes,window=0..10", tmp_path).load("v0").image == 0.5
    ).all()


def test_a_window_of_equal_ends_is_that_of_the_least_and_greatest_value(tmp_path: Path) -> None:
    make(tmp_path)
    voxels = np.zeros((10, 10, 10), np.int16)
    voxels[0, 0, :2] = (3, 7)  # the foreground's percentiles
    write(tmp_path / "images" / "v0.nii.gz", voxels)
    write(tmp_path / "masks" / "v0.nii.gz", (voxels > 0).astype(np.uint8))
    case = load_dataset("folder:mode=volumes,lower=49,upper=51", tmp_path).load("v0")
    assert case.intensity is not None
    low, high = case.intensity[0].low, case.intensity[0].high
    assert 3 < low < high < 7  # of the two voxels that are not empty
    voxels[0, 0, :2] = 3
    voxels[0, 0, 2] = -1
    write(tmp_path / "images" / "v0.nii.gz", voxels)  # 997 zeros, which are not the least value
    case = load_dataset("folder:mode=volumes", tmp_path).load("v0")
    assert case.intensity is not None
    assert (case.intensity[0].low, case.intensity[0].high) == (-1, 3)


def test_resizing_keeps_the_extent_in_millimetres(tmp_path: Path) -> None:
    case = load_dataset("folder:mode=volumes,size=10", make(tmp_path)).load("v0")
    assert case.image.shape == (1, 10, 10, 10)
    assert case.spacing == pytest.approx((6 * 2 / 10, 7 * 3 / 10, 5 * 4 / 10))


def test_float_labels_are_labels_and_halves_are_not(tmp_path: Path) -> None:
    make(tmp_path)
    labels = RANDOM.integers(0, 3, (6, 7, 5)).astype(np.float32)
    write(tmp_path / "masks" / "v0.nii.gz", labels)
    np.testing.assert_array_equal(
        Folder(root=tmp_path, mode="volumes").load("v0").labels,
        nibabel.as_closest_canonical(nibabel.Nifti1Image(labels, LPS)).dataobj,
    )
    write(tmp_path / "masks" / "v0.nii.gz", labels + 0.5)
    with pytest.raises(UserError, match=r"v0\.nii\.gz holds values between whole numbers"):
        _ = Folder(root=tmp_path).class_names


def test_every_bad_volume_is_named_at_once(tmp_path: Path) -> None:
    make(tmp_path, 4)
    write(tmp_path / "masks" / "v0.nii.gz", np.zeros((6, 7, 4), np.uint8))
    write(tmp_path / "masks" / "v1.nii.gz", np.zeros((6, 7, 5), np.uint8), TURNED * 2)
    (tmp_path / "images" / "v2.nii.gz").write_text("text")
    with pytest.raises(UserError) as caught:
        Folder(root=tmp_path)
    for part in ("masks/v0.nii.gz has (6, 7, 4)", "masks/v1", "images/v2.nii.gz is not a NIfTI"):
        assert part in str(caught.value)


def test_nan_and_a_cut_file_are_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path)
    bad = np.full((6, 7, 5), np.nan, np.float32)
    write(tmp_path / "images" / "v0.nii.gz", bad)
    with pytest.raises(BadFileError, match=r"images/v0\.nii\.gz holds voxels that are NaN"):
        Folder(root=tmp_path).load("v0_z001")
    path = tmp_path / "images" / "v1.nii.gz"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(BadFileError, match=r"images/v1\.nii\.gz"):
        Folder(root=tmp_path).load("v1_z001")


def test_a_header_that_declares_too_much_is_refused_unread(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((30000, 30000, 3000))
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + b"\0" * 8)
    with pytest.raises(BadFileError, match=r"over the .* allowed"):
        inspect_volume(tmp_path / "a.nii")


def test_percentiles_and_channels_out_of_place_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match="not percentiles"):
        Folder(root=tmp_path, lower=60, upper=40)
    with pytest.raises(UserError, match="is for images, not for volumes"):
        Folder(root=tmp_path, channels=3)


def decathlon(root: Path, description: dict[str, Any]) -> Path:
    make(root, images="imagesTr", masks="labelsTr")
    (root / "dataset.json").write_text(json.dumps(description))
    return root


LABELS = {"0": "background", "1": "anterior", "2": "posterior"}


@pytest.mark.parametrize("labels", [LABELS, {name: int(n) for n, name in LABELS.items()}])
def test_a_decathlon_task_names_its_classes(tmp_path: Path, labels: dict[str, Any]) -> None:
    files = [
        {"image": f"./imagesTr/v{n}.nii.gz", "label": f"./labelsTr/v{n}.nii.gz"} for n in (0, 1)
    ]
    data = MSD(root=decathlon(tmp_path, {"labels": labels, "training": files}), mode="volumes")
    assert data.class_names == ("background", "anterior", "posterior")
    assert {e.case_id for s in data.splits for e in data.entries(s)} == {"v0", "v1"}
    assert MSD(root=tmp_path).spatial_dims == 2


def test_the_decathlon_and_the_folder_layout_give_the_same_arrays(tmp_path: Path) -> None:
    decathlon(tmp_path / "a", {"labels": LABELS})
    for old, new in (("imagesTr", "images"), ("labelsTr", "masks")):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / new).symlink_to(tmp_path / "a" / old)
    one, two = MSD(root=tmp_path / "a"), Folder(root=tmp_path / "b")
    for split in ("train", "test"):
        assert one.entries(split) == two.entries(split)
        first = one.entries(split)[0].case_id
        np.testing.assert_array_equal(one.load(first).image, two.load(first).image)
        np.testing.assert_array_equal(one.load(first).labels, two.load(first).labels)


def test_modalities_become_channels_scaled_each_on_its_own(tmp_path: Path) -> None:
    decathlon(tmp_path, {"labels": LABELS, "modality": {"0": "T2", "1": "ADC"}})
    for n in range(3):
        both = np.stack([RANDOM.random((6, 7, 5)), 1e4 * RANDOM.random((6, 7, 5))], axis=-1)
        write(tmp_path / "imagesTr" / f"v{n}.nii.gz", both.astype(np.float32))
    data = MSD(root=tmp_path, mode="volumes")
    case = data.load("v1")
    assert data.in_channels == 2
    np.testing.assert_allclose(case.image.max(axis=(1, 2, 3)), 1.0)
    assert case.intensity is not None
    voxels = read_voxels(tmp_path / "imagesTr" / "v1.nii.gz")
    for scale, pixels, values in zip(case.intensity, case.image, voxels, strict=True):
        restored = scale.low + pixels.astype(np.float64) * (scale.high - scale.low)
        np.testing.assert_allclose(restored, np.clip(values, scale.low, scale.high), rtol=1e-5)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, "labels is None"),
        ({"labels": {"1": "background", "2": "x"}}, "0 for the background"),
        ({"labels": {"background": 0, "x": [0, 1]}}, "holds the background"),
        ({"labels": LABELS, "modality": {"0": "a", "1": "b"}}, "dataset.json names 2"),
        ({"labels": LABELS, "training": [{"image": "./imagesTr/x.nii.gz"}]}, "image and label"),
        (
            {"labels": LABELS, "training": [{"image": "imagesTr/x.nii.gz", "label": "y.nii.gz"}]},
            "imagesTr/x.nii.gz is listed",
        ),
    ],
)
def test_a_wrong_description_is_refused(
    tmp_path: Path, description: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        _ = MSD(root=decathlon(tmp_path, description)).class_names


def test_the_cache_reads_once_forgets_the_oldest_and_sees_changes(tmp_path: Path) -> None:
    reads: list[str] = []

    def reader(path: Path) -> Any:
        def read() -> tuple[np.ndarray, None]:
            reads.append(path.name)
            return np.zeros(100, np.uint8), None

        return read

    files = [tmp_path / name for name in "abc"]
    for path in files:
        path.write_text("1")
    cache = VolumeCache(max_bytes=200)
    a, b, c = files
    for path in (a, a, b, a, c, a, b):  # c pushes out b, not a
        assert not cache.get(path, 0, reader(path))[0].flags.writeable
    assert reads == ["a", "b", "c", "b"]
    b.write_text("longer")
    cache.get(b, 0, reader(b))
    assert reads[-1] == "b"
    assert len(reads) == 5


def test_slices_of_which_nothing_is_scored_are_counted_and_volumes_are_not(tmp_path: Path) -> None:
    make(tmp_path)
    labels = RANDOM.integers(0, 3, (6, 7, 5)).astype(np.uint8)
    labels[..., [1, 3]] = 9
    write(tmp_path / "masks" / "v1.nii.gz", labels)
    with pytest.raises(UserError) as caught:
        load_dataset("folder:ignore=9", tmp_path)
    words = "masks/v1.nii.gz holds nothing but the ignored value 9 in 2 slices, the first 1"
    assert words in str(caught.value)
    assert load_dataset("folder:ignore=9,mode=volumes", tmp_path).spatial_dims == 3
    write(tmp_path / "masks" / "v1.nii.gz", np.full((6, 7, 5), 9, np.uint8))
    with pytest.raises(
        UserError, match=r"masks/v1\.nii\.gz holds nothing but the ignored value 9$"
    ):
        load_dataset("folder:ignore=9,mode=volumes", tmp_path)


@pytest.mark.parametrize("spec", ["rois=fov", "rois=9", "rois=fov,ignore=8", "rois=9,ignore=8"])
def test_slices_of_which_nothing_is_valid_are_left_out_and_told_of(
    spec: str, tmp_path: Path
) -> None:
    """They are no cases; a slice that is valid somewhere, and ignored there, is a fault."""
    make(tmp_path)
    inside = np.ones((6, 7, 5), np.uint8)
    for n in range(3):
        write(tmp_path / "fov" / f"v{n}.nii.gz", inside)
    inside[..., [0, 3]] = 0
    inside[:3] = 0
    labels = RANDOM.integers(0, 3, (6, 7, 5)).astype(np.uint8)
    if "rois=9" in spec:
        labels[inside == 0] = 9
    write(tmp_path / "fov" / "v1.nii.gz", inside)
    write(tmp_path / "masks" / "v1.nii.gz", labels)
    data = load_dataset(f"folder:{spec}", tmp_path)
    own = [e for split in data.splits for e in data.entries(split) if e.group_id == "v1"]
    assert [entry.case_id for entry in own] == ["v1_z001", "v1_z002", "v1_z004"]
    assert all(data.load(entry.case_id).valid is not None for entry in own)
    file = "masks/v1.nii.gz" if "rois=9" in spec else "fov/v1.nii.gz"
    said = "2 slices are left out, in which nothing is marked as valid; the first is v1_z000"
    assert f"{said} ({file})" in data.notes
    assert load_dataset(f"folder:{spec},mode=volumes", tmp_path).load("v1").valid is not None
    if "ignore" in spec:
        labels[3:, :, 2] = 8
        write(tmp_path / "masks" / "v1.nii.gz", labels)
        with pytest.raises(UserError) as caught:
            load_dataset(f"folder:{spec}", tmp_path)
        words = "masks/v1.nii.gz holds nothing but the ignored value 8 within its valid region in 1"
        assert f"{words} slice, the first 2" in str(caught.value)
    labels[:], inside[:] = 9 if "rois=9" in spec else labels, 0
    write(tmp_path / "fov" / "v1.nii.gz", inside)
    write(tmp_path / "masks" / "v1.nii.gz", labels)
    for mode in ("slices", "volumes"):
        with pytest.raises(UserError, match=rf"{file} marks nothing as valid$"):
            load_dataset(f"folder:{spec},mode={mode}", tmp_path)


# ------------------------------------------------------------------------------ damage and bombs


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_named_pipe_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    os.mkfifo(path)
    for read in (inspect_volume, read_voxels):
        with pytest.raises(BadFileError, match="it is a named pipe"):
            read(path)


@pytest.mark.parametrize("damage", ["checksum", "length", "cut", "one bit"])
def test_damage_behind_the_last_voxel_is_damage(damage: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", RANDOM.integers(0, 99, (40, 50, 60)).astype(np.int16))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-8:]
    else:
        content[{"checksum": -8, "length": -4, "one bit": len(content) // 2}[damage]] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"a\.nii\.gz cannot be read"):
        read_voxels(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_a_compressed_volume_is_the_same_as_a_plain_one(
    kind: Any, dtype: Any, tmp_path: Path
) -> None:
    voxels = RANDOM.integers(0, 99, (4, 5, 6, 2)).astype(dtype)
    image = kind(voxels, TURNED)
    image.header.set_slope_inter(2, -3)
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(image, tmp_path / name)
    plain = read_voxels(tmp_path / "a.nii")
    np.testing.assert_array_equal(read_voxels(tmp_path / "a.nii.gz"), plain)
    assert plain.shape == (2, 6, 4, 5)


def test_voxels_that_memory_cannot_hold_are_refused_by_the_file_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte in the file is eight in memory; zeros take nothing in a compressed file."""
    path = write(tmp_path / "a.nii.gz", np.zeros((50, 50, 50), np.uint8))
    monkeypatch.setattr(volumes, "free_bytes", lambda: 8 * 50**3)
    read_voxels(path)
    monkeypatch.setattr(volumes, "free_bytes", lambda: 8 * 50**3 - 1)
    for read in (inspect_volume, read_voxels):
        with pytest.raises(BadFileError, match=r"a\.nii\.gz declares .* 1,000,000 bytes once"):
            read(path)
