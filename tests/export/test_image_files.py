"""Images written as files of their case's own kind: what is read back is what was meant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segbench.api import Case, Intensity
from segbench.data import load_dataset
from segbench.data.layouts.folder import Folder
from segbench.data.rasters import read_image
from segbench.data.tiff_stacks import stack_bytes
from segbench.data.volumes import read_voxels
from segbench.errors import UserError
from segbench.export.image_files import beyond_rounding, read_change, read_written, write_image
from segbench.plugins.naming import file_name, legal

RANDOM = np.random.default_rng(1)
TURNED = np.array([[0, 0, 4.0, 1], [-2.0, 0, 0, 2], [0, 3.0, 0, 3], [0, 0, 0, 1]])  # A, S, R


def raster_folder(root: Path, pixels: np.ndarray, suffix: str) -> Folder:
    for room in ("images", "masks"):
        (root / room).mkdir(parents=True)
    for index in range(3):
        Image.fromarray(pixels).save(root / "images" / f"c{index}{suffix}")
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[2:5] = 255
        Image.fromarray(mask).save(root / "masks" / f"c{index}.png")
    return Folder(root=root)


def shifted(case: Case, levels: int) -> np.ndarray:
    """The clean image, every pixel up by so many levels and a bit."""
    assert case.intensity is not None
    scale = case.intensity[0]
    up = (levels + 0.3) / abs(scale.high - scale.low)
    return np.clip(case.image + np.float32(up), 0, 1)


@pytest.mark.parametrize(
    ("dtype", "channels", "suffix", "written"),
    [
        (np.uint8, 1, ".png", ".png"),
        (np.uint8, 3, ".png", ".png"),
        (np.uint8, 3, ".bmp", ".png"),
        (np.uint8, 1, ".tif", ".tiff"),
        (np.uint16, 1, ".png", ".png"),
        (np.uint16, 1, ".tiff", ".tiff"),
    ],
)
def test_a_picture_keeps_its_depth_and_moves_by_whole_levels(
    dtype: Any, channels: int, suffix: str, written: str, tmp_path: Path
) -> None:
    top = np.iinfo(dtype).max
    pixels = RANDOM.integers(0, top - 9, (8, 7, channels)).astype(dtype).squeeze()
    case = raster_folder(tmp_path / "data", pixels, suffix).load("c1")
    path = write_image(tmp_path / "out", shifted(case, 2), case)
    assert path.name == f"c1{written}"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels + 2)
    back = read_written(path, case)
    np.testing.assert_array_equal(back, read_image(path)[0])
    clean = read_written(write_image(tmp_path / "clean", case.image, case), case)
    np.testing.assert_array_equal(clean, case.image)


def test_twelve_bits_lie_in_a_16_bit_file_in_their_own_units(tmp_path: Path) -> None:
    levels = RANDOM.integers(0, 4096, (1, 6, 5))
    image = ((4095 - levels.astype(np.float32)) / np.float32(4095)).astype(np.float32)
    case = Case("a", "a", image, np.zeros((6, 5), np.int64), ("background", "lung"),
                intensity=(Intensity(4095.0, 0.0, 12),))  # fmt: skip
    path = write_image(tmp_path, image, case)
    stored = np.asarray(Image.open(path))
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, levels[0])
    np.testing.assert_array_equal(read_written(path, case), image)


def volume_folder(root: Path, voxels: np.ndarray, **options: Any) -> Folder:
    for room in ("images", "masks"):
        (root / room).mkdir(parents=True)
    for index in range(3):
        nibabel.save(nibabel.Nifti1Image(voxels, TURNED), root / "images" / f"v{index}.nii.gz")
        mask = (voxels > np.median(voxels)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(mask, TURNED), root / "masks" / f"v{index}.nii.gz")
    return Folder(root=root, **{"lower": 0, "upper": 100, **options})


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_a_volume_keeps_orientation_type_and_units(dtype: Any, tmp_path: Path) -> None:
    voxels = (RANDOM.random((5, 6, 7)) * 200 + 20).astype(dtype)
    case = volume_folder(tmp_path / "data", voxels, mode="volumes").load("v1")
    path = write_image(tmp_path / "out", case.image, case)
    written: Any = nibabel.load(path)
    np.testing.assert_allclose(written.affine, TURNED, atol=1e-6)
    assert written.get_data_dtype() == dtype
    np.testing.assert_allclose(np.asarray(written.dataobj), voxels, rtol=1e-5)
    np.testing.assert_allclose(read_written(path, case), case.image, atol=1e-6)


def test_a_slice_lies_where_its_volume_has_it(tmp_path: Path) -> None:
    voxels = RANDOM.integers(-900, 900, (5, 6, 7)).astype(np.int16)
    data = volume_folder(tmp_path / "data", voxels)
    for entry in [e for split in data.splits for e in data.entries(split)][:6]:
        case = data.load(entry.case_id)
        path = write_image(tmp_path / "out", case.image, case)
        np.testing.assert_array_equal(read_written(path, case), case.image)
        written: Any = nibabel.load(path)
        volume: Any = nibabel.load(case.source)
        stored = np.asarray(written.dataobj)
        here = np.array([*np.argwhere(np.ones(stored.shape))[3], 1])
        there = np.rint(np.linalg.solve(volume.affine, written.affine @ here)).astype(int)
        assert stored[tuple(here[:3])] == voxels[tuple(there[:3])]


@pytest.mark.parametrize("mode", ["volumes", "slices"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_outliers_too_differ_from_their_file_by_at_most_eps(
    dtype: Any, mode: str, tmp_path: Path
) -> None:
    """eps times the window is the law of every voxel, those clipped by the window included."""
    voxels = (RANDOM.random((5, 6, 7)) * 900).astype(dtype)
    voxels[1:4, 2, :], voxels[2, 4, :] = 20_000, -7_000
    data = volume_folder(tmp_path / "data", voxels, mode=mode, lower=10, upper=90)
    case = data.load("v1" if mode == "volumes" else "v1_z002")
    assert case.intensity is not None
    assert case.source is not None
    span, eps = case.intensity[0].high - case.intensity[0].low, 8 / 255
    sign = np.where(RANDOM.random(case.image.shape) < 0.5, -1, 1)
    attacked = np.clip(case.image + sign * np.float32(eps), 0, 1).astype(np.float32)
    path = write_image(tmp_path / "out", attacked, case)
    own, written = read_voxels(case.source), read_voxels(path)
    own = own if case.depth is None else own[..., case.depth : case.depth + 1]
    change = (written.astype(np.float64) - own).reshape(case.image.shape)
    meant = (attacked.astype(np.float64) - case.image) * span
    assert (np.abs(own) > 5000).any()
    assert np.abs(change).max() <= eps * span * (1 + 1e-6)
    np.testing.assert_allclose(change, meant, atol=1 if dtype == np.int16 else 2e-3)
    np.testing.assert_allclose(read_change(path, case), change / span, atol=1e-12)
    untouched = read_voxels(write_image(tmp_path / "clean", case.image, case))
    np.testing.assert_array_equal(untouched, own)


@pytest.mark.parametrize("mode", ["volumes", "slices"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_of_what_was_moved_the_file_is_the_image(dtype: Any, mode: str, tmp_path: Path) -> None:
    """Read by the case's window; what has not moved keeps the file's own values to the bit."""
    voxels = (RANDOM.random((5, 6, 7)) * 900).astype(dtype)
    voxels[1:4, 2, :], voxels[2, 4, :] = 20_000, -7_000
    data = volume_folder(tmp_path / "data", voxels, mode=mode, lower=10, upper=90)
    case = data.load("v1" if mode == "volumes" else "v1_z002")
    assert case.source is not None
    assert case.intensity is not None
    attacked = case.image.copy()
    attacked[:, :3] = np.roll(attacked, 1, 2)[:, :3]
    path = write_image(tmp_path / "out", attacked, case, replaced=True)
    level = 1 / abs(case.intensity[0].high - case.intensity[0].low) if dtype == np.int16 else 1e-6
    assert np.abs(read_written(path, case) - attacked).max() <= level
    change = read_change(path, case, replaced=True)
    assert np.abs(change - (attacked - case.image)).max() <= level + 1e-6
    plain = read_written(write_image(tmp_path / "plain", attacked, case), case)
    assert np.abs(plain - attacked).max() > 0.2
    own, written = read_voxels(case.source), read_voxels(path)
    own = own if case.depth is None else own[..., case.depth : case.depth + 1]
    same = (attacked == case.image).reshape(own.shape)
    np.testing.assert_array_equal(written[same], own[same])
    assert (np.abs(own[same]) > 5000).any()


def test_a_resized_volume_spans_the_same_millimetres(tmp_path: Path) -> None:
    voxels = RANDOM.integers(0, 900, (5, 6, 7)).astype(np.int16)
    case = volume_folder(tmp_path / "data", voxels, mode="volumes", size=9).load("v0")
    path = write_image(tmp_path / "out", case.image, case)
    assert read_voxels(path).shape == (1, 9, 9, 9)
    written: Any = nibabel.load(path)
    for corner in (np.zeros(3), np.ones(3)):
        there = [
            nibabel.affines.apply_affine(affine, corner * shape - 0.5)
            for affine, shape in ((written.affine, (9, 9, 9)), (TURNED, (5, 6, 7)))
        ]
        np.testing.assert_allclose(*there, atol=1e-5)


def test_channels_of_a_volume_are_its_fourth_axis(tmp_path: Path) -> None:
    voxels = RANDOM.random((5, 6, 7, 2)).astype(np.float32) * [1, 1e4]
    root = tmp_path / "data"
    for room in ("images", "masks"):
        (root / room).mkdir(parents=True)
    for index in range(2):
        stored = nibabel.Nifti1Image(voxels.astype(np.float32), TURNED)
        nibabel.save(stored, root / "images" / f"v{index}.nii")
        mask = nibabel.Nifti1Image((voxels[..., 0] > 0.5).astype(np.uint8), TURNED)
        nibabel.save(mask, root / "masks" / f"v{index}.nii")
    case = Folder(root=root, mode="volumes", lower=0, upper=100).load("v0")
    path = write_image(tmp_path / "out", case.image, case)
    assert path.name == "v0.nii"
    written: Any = nibabel.load(path)
    np.testing.assert_allclose(np.asarray(written.dataobj), voxels, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(written.affine, TURNED, atol=1e-6)


KINDS = {
    "uint8 and int16": ("u1", "i2", "i2"),
    "uint8 and int8": ("u1", "i1", "i2"),
    "uint16 and int16": ("u2", "i2", "i4"),
    "int16 and float32": ("i2", "f4", "f4"),
    "int32 and float32": ("i4", "f4", "f8"),
}


def channel(kind: str, low: float, high: float) -> np.ndarray:
    """A volume with two voxels far beyond the others."""
    values = np.linspace(low / 4, high / 4, 5 * 6 * 7)
    values[[3, 100]] = low, high
    return RANDOM.permutation(values).reshape(5, 6, 7).astype(kind)


def several(root: Path, layout: str, kinds: tuple[str, str], ending: str) -> tuple[str, list[Any]]:
    """A data set of two channels in files of their own: its spec, and the channels of case c0."""
    ends = {"u1": (0, 255), "i1": (-128, 127), "u2": (0, 60_000), "i2": (-1081, 7460),
            "i4": (-100_000, 90_000), "f4": (-3.5, 7.25)}  # fmt: skip
    rooms = ("imagesTr", "labelsTr") if layout == "nnunet" else ("images", "masks")
    first: list[Any] = []
    for name in ("c0", "c1", "c2"):
        stored = [channel(kind, *ends[kind]) for kind in kinds]
        first = first or stored
        mask = RANDOM.integers(0, 2, (5, 6, 7)).astype(np.uint8)
        files = {rooms[0] + f"/{name}_{n:04d}": values for n, values in enumerate(stored)}
        for file, values in (files | {f"{rooms[1]}/{name}": mask}).items():
            path = root / f"{file}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if ending == ".tif":
                path.write_bytes(stack_bytes(values))
            else:
                nibabel.save(nibabel.Nifti1Image(values, TURNED), path)
    if layout == "nnunet":
        described = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "x": 1}}
        (root / "dataset.json").write_text(json.dumps(described | {"file_ending": ending}))
        return "nnunet", first
    if layout == "table":
        lines = [f"images/{n}_0000{ending};images/{n}_0001{ending},masks/{n}{ending}"
                 for n in ("c0", "c1", "c2")]  # fmt: skip
        (root / "cases.csv").write_text("\n".join(["image,mask", *lines]))
        return "folder:mode=volumes,table=cases.csv", first
    return "folder:mode=volumes", first


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("layout", ["folder", "table", "nnunet"])
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_channels_of_unlike_files_each_keep_their_own_values(
    kinds: tuple[str, str, str], layout: str, replaced: bool, tmp_path: Path
) -> None:
    """Within eps of each file, to a number of its type, also beyond its window."""
    spec, stored = several(tmp_path / "in", layout, kinds[:2], ".nii.gz")
    data = load_dataset(spec, tmp_path / "in")
    (name,) = (e.case_id for s in data.splits for e in data.entries(s) if "c0" in e.case_id)
    case, eps = data.load(name), 8 / 255
    files = data.image_files(name)
    sign = np.where(RANDOM.random(case.image.shape) < 0.5, -1, 1)
    attacked = np.clip(case.image + sign * np.float32(eps), 0, 1).astype(np.float32)
    attacked[:, :2] = case.image[:, :2]
    path = write_image(tmp_path / "out", attacked, case, files, replaced=replaced)
    written: Any = nibabel.load(path)
    assert written.get_data_dtype() == kinds[2]
    assert case.intensity is not None
    for n, (own, scale) in enumerate(zip(stored, case.intensity, strict=True)):
        turned = np.asarray(nibabel.as_closest_canonical(nibabel.Nifti1Image(own, TURNED)).dataobj)
        got = np.asarray(nibabel.as_closest_canonical(written).dataobj)[..., n].astype(float)
        span = scale.high - scale.low
        level = 1 if np.dtype(kinds[2]).kind != "f" else 1e-6 * np.abs(own).max()
        np.testing.assert_array_equal(got[:2], turned[:2])
        inside = (turned >= scale.low) & (turned <= scale.high)
        assert not inside.all()
        far = np.abs(got - turned)[inside if replaced else ...].max()
        assert far <= eps * span * (1 + 1e-6) + (level if kinds[n][0] == "f" or replaced else 0)
    change = read_change(path, case, files, replaced=replaced)
    assert not beyond_rounding(path, change, attacked, case)


def test_channels_of_several_tiff_stacks_are_one_nifti(tmp_path: Path) -> None:
    """A stack has no place for a second channel."""
    spec, stored = several(tmp_path / "in", "nnunet", ("u1", "u2"), ".tif")
    data = load_dataset(spec, tmp_path / "in")
    case = data.load("c0")
    path = write_image(tmp_path / "out", case.image, case, data.image_files("c0"))
    assert path.name == "c0.nii.gz"
    np.testing.assert_array_equal(read_voxels(path), np.stack(stored))


def test_an_image_of_more_channels_than_its_source_is_never_wrapped(tmp_path: Path) -> None:
    """A plug-in need not say which files the others are of."""
    spec, stored = several(tmp_path / "in", "folder", ("u1", "i2"), ".nii")
    case = load_dataset(spec, tmp_path / "in").load("c0")
    path = write_image(tmp_path / "out", case.image, case)
    np.testing.assert_allclose(read_written(path, case), case.image, atol=1e-6)
    assert nibabel.load(path).get_data_dtype() == np.float32  # type: ignore[attr-defined]
    assert stored[1].min() < 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("replaced", [False, True])
def test_of_a_picture_too_what_its_range_clips_keeps_the_files_values(
    replaced: bool, suffix: str, tmp_path: Path
) -> None:
    pixels = RANDOM.integers(0, 30_000, (8, 7)).astype(np.uint16)
    root = tmp_path / "data"
    raster_folder(root, pixels, suffix)
    data = Folder(root=root, range="8000..22000")
    case = data.load("c1")
    attacked = np.clip(case.image + np.float32(8 / 255), 0, 1)
    attacked[:, :3] = case.image[:, :3]
    path = write_image(tmp_path / "out", attacked, case, data.image_files("c1"), replaced=replaced)
    change = read_change(path, case, data.image_files("c1"), replaced=replaced)
    written = np.asarray(Image.open(path)).astype(int)
    np.testing.assert_array_equal(written[:3], pixels[:3])
    if replaced:
        assert np.abs(read_written(path, case) - attacked).max() <= 1 / 14_000
    else:
        meant = 14_000 * (attacked[0].astype(float) - case.image[0])
        assert ((meant - 1 < written - pixels) & (written - pixels <= meant + 0.004)).all()
        np.testing.assert_allclose(change[0], (written - pixels) / 14_000, atol=1e-9)
    assert not beyond_rounding(path, change, attacked, case)


def test_what_the_numbers_of_a_file_do_not_reach_is_told(tmp_path: Path) -> None:
    """A window from below the least number of a byte: what is changed to there stays at 0."""
    voxels = RANDOM.integers(0, 200, (5, 6, 7)).astype(np.uint8)
    data = volume_folder(
        tmp_path / "data", voxels, mode="volumes", window="-100..300", lower=0.5, upper=99.5
    )
    case = data.load("v0")
    attacked = case.image - np.float32(0.25)
    attacked = np.clip(attacked, 0, 1)
    path = write_image(tmp_path / "out", attacked, case, data.image_files("v0"))
    written = read_voxels(path)
    np.testing.assert_array_equal(
        written, np.clip(read_voxels(data.image_files("v0")[0]) - 100.0, 0, None)
    )
    beyond = beyond_rounding(path, read_change(path, case), attacked, case)
    assert beyond == pytest.approx((100 - float(voxels.min()) - 1) / 400, abs=1e-5)
    clean = write_image(tmp_path / "clean", case.image, case)
    assert not beyond_rounding(clean, read_change(clean, case), case.image, case)


def test_what_no_file_holds_is_refused(tmp_path: Path) -> None:
    image = np.zeros((2, 4, 4), np.float32)
    case = Case("a", "a", image, np.zeros((4, 4), np.int64), ("background", "lung"),
                intensity=(Intensity(0.0, 255.0, 8),) * 2)  # fmt: skip
    with pytest.raises(UserError, match="case a has 2 channels of 8 bits"):
        write_image(tmp_path, image, case)


@pytest.mark.parametrize("name", ["..", "../c1", "a/../../c1", "/elsewhere/c1"])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    case = raster_folder(tmp_path / "data", np.zeros((8, 7), np.uint8), ".png").load("c1")
    with pytest.raises(UserError, match=r"would be written outside .*out"):
        write_image(tmp_path / "out", case.image, replace(case, case_id=name))
    inside = write_image(tmp_path / "out", case.image, replace(case, case_id="a/c1"))
    assert inside == tmp_path / "out" / "a" / "c1.png"


@pytest.mark.parametrize(
    ("name", "folder"), [("..", "__"), (".", "_"), ("", "_"), ("a/..", "a_.."), ("a..b", "a..b")]
)
def test_a_folder_s_name_is_never_another_folder(name: str, folder: str) -> None:
    assert legal(name) == folder
    assert file_name(name).startswith(folder)


@given(st.text(max_size=150))
def test_any_name_is_one_folder_below(name: str) -> None:
    folder = file_name(name)
    assert (Path("out") / folder).parts == ("out", folder)
    assert not {folder} & {"", ".", ".."}
    assert len(folder) <= 150


@given(st.lists(st.text(max_size=200), unique=True, max_size=5))
def test_no_two_names_share_a_folder(names: list[str]) -> None:
    every = {*names, "größe", "grüße"}
    assert len({file_name(name) for name in every}) == len(every)
