"""The truth that moved with an image, read back by the options that are said, is that truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from segbench.data import load_dataset
from segbench.export.image_files import write_image
from segbench.export.truth_files import Truth, write_truth

RANDOM = np.random.default_rng(3)
NAMES = ("c0", "c1", "c2")


def spots(values: tuple[int, ...], shape: tuple[int, ...] = (12, 10)) -> np.ndarray:
    """A map of these values, the first of them nearly everywhere else."""
    return RANDOM.choice(np.array(values), shape)


def save(path: Path, values: np.ndarray, colours: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, 2, 3, 1])), path)
        return
    picture = Image.fromarray(values)
    if colours:
        picture.putpalette(colours)
    picture.save(path)


def moved(data: Any, name: str) -> np.ndarray:
    """The labels of a case, as an image's that moved by two pixels."""
    return np.roll(data.load(name).labels, 2, 0)


def written(data: Any, out: Path) -> list[Truth]:
    """The truths of all cases, moved, and the images beside them."""
    found = []
    for name in NAMES:
        case = data.load(name)
        write_image(out / "images", case.image, case, data.image_files(name))
        truth = write_truth(out / "masks", moved(data, name), case, data)
        assert truth is not None
        found.append(truth)
    return found


def same(again: Any, data: Any) -> None:
    """Whether what is read back is the truth, ignored pixels and meaning included."""
    for name in NAMES:
        back, case = again.load(name), data.load(name)
        np.testing.assert_array_equal(back.labels, moved(data, name))
        assert back.regions == case.regions
    assert len(again.class_names) == len(data.class_names)


OPTIONS = {
    "values": ("values=0+10+20+99", (0, 10, 20, 99), "", {0, 10, 20, 99}),
    "values of one class": ("values=0+10&20+99", (0, 10, 20, 99), "", {0, 10, 99}),
    "regions": ('regions="core={10}; whole={10,20}",ignore=99', (0, 10, 20, 99), "99",
                {0, 10, 20, 99}),
    "region": ("rois=99,values=0+10+20", (0, 10, 20, 99), "99", {0, 10, 20, 99}),
    "region and more": ("rois=99,ignore=20", (0, 10, 20, 99), "20", {0, 10, 20}),
    "found": ("ignore=255", (0, 1, 2, 255), "255", {0, 1, 2, 255}),
    "white": ("", (0, 255), "", {0, 255}),
    "wide": ("values=0+300+7", (0, 7, 300), "", {0, 7, 300}),
    "negative": ("ignore=-1", (0, 1, 2, -1), "-1", {0, 1, 2, -1}),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["pictures", "volumes"])
@pytest.mark.parametrize(("options", "values", "ignored", "kept"), OPTIONS.values(), ids=OPTIONS)
def test_the_data_sets_own_options_read_it(
    options: str, values: tuple[int, ...], ignored: str, kept: set[int], kind: str, tmp_path: Path
) -> None:
    """In the mask values of the data; two that are one class are one of them."""
    ending, shape = (".png", (12, 10)) if kind == "pictures" else (".nii.gz", (12, 10, 3))
    mask_ending = ".tif" if min(values) < 0 and kind == "pictures" else ending
    dtype = np.int32 if min(values) < 0 else np.uint16 if max(values) > 255 else np.uint8
    for name in NAMES:
        save(
            tmp_path / "in" / "images" / f"{name}{ending}", spots((3, 90, 200), shape).astype("u1")
        )
        save(tmp_path / "in" / "masks" / f"{name}{mask_ending}", spots(values, shape).astype(dtype))
    given = ("mode=volumes," if kind == "volumes" else "") + options
    spec = f"folder:{given}".strip(":,")
    data = load_dataset(spec, tmp_path / "in")
    truths = written(data, tmp_path / "out")
    assert {truth.ignored for truth in truths} == {ignored}
    assert {truth.read_with for truth in truths} == {"the data set's own"}
    for truth in truths:
        if kind == "volumes":
            found = np.asarray(nibabel.load(truth.path).dataobj)  # type: ignore[attr-defined]
        else:
            found = np.asarray(Image.open(truth.path))
        assert set(np.unique(found).tolist()) == kept
    same(load_dataset(spec, tmp_path / "out"), data)


def region(root: Path) -> None:
    for name in NAMES:
        inside = np.zeros((12, 10), np.uint8)
        inside[3:9] = 255
        save(root / "fov" / f"{name}.png", inside)


@pytest.mark.parametrize(
    ("options", "values", "ignored"),
    [("", (0, 1, 2), "255"), ("", (0, 255), "254"), ("ignore=7", (0, 1, 7), "7"),
     ("values=0+10+20", (0, 10, 20), "255")],
)  # fmt: skip
def test_what_a_region_in_files_leaves_out_is_ignored_by_a_value(
    options: str, values: tuple[int, ...], ignored: str, tmp_path: Path
) -> None:
    for name in NAMES:
        save(tmp_path / "in" / "images" / f"{name}.png", spots((3, 90, 200)).astype("u1"))
        save(tmp_path / "in" / "masks" / f"{name}.png", spots(values).astype("u1"))
    region(tmp_path / "in")
    data = load_dataset(f"folder:rois=fov,{options}".strip(","), tmp_path / "in")
    truths = written(data, tmp_path / "out")
    added = "" if options == "ignore=7" else f", with ignore={ignored}"
    assert {t.read_with for t in truths} == {f"the data set's own without rois={added}"}
    assert {truth.ignored for truth in truths} == {ignored}
    both = ",".join(filter(None, (options, added.removeprefix(", with "))))
    same(load_dataset(f"folder:{both}".strip(":"), tmp_path / "out"), data)


COLOURS = [0, 0, 0, 255, 0, 0, 0, 0, 255, 90, 90, 90]


@pytest.mark.parametrize("rois", [False, True])
@pytest.mark.parametrize("palette", [False, True])
def test_colours_are_written_as_they_are(palette: bool, rois: bool, tmp_path: Path) -> None:
    """With the palette by whose indices the options name them, or without one."""
    for name in NAMES:
        save(tmp_path / "in" / "images" / f"{name}.png", spots((3, 90, 200)).astype("u1"))
        indices = spots((0, 1, 2, 3)).astype("u1")
        mask = indices if palette else np.array(COLOURS, np.uint8).reshape(-1, 3)[indices]
        save(tmp_path / "in" / "masks" / f"{name}.png", mask, COLOURS if palette else None)
    region(tmp_path / "in")
    options = "values=0+1&3+2" if palette else "values=0+#ff0000&90+#0000ff"
    data = load_dataset(f"folder:{options}{',rois=fov' if rois else ''}", tmp_path / "in")
    truth = written(data, tmp_path / "out")[0]
    with Image.open(truth.path) as picture:
        assert picture.mode == ("P" if palette else "RGB")
    assert truth.ignored == ("255" if rois else "")
    more = ",ignore=255" if rois else ""
    same(load_dataset(f"folder:{options}{more}", tmp_path / "out"), data)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("rois", [False, True])
def test_structures_of_masks_of_their_own_are_labels_in_one_file(
    rois: bool, overlap: bool, tmp_path: Path
) -> None:
    for name in NAMES:
        save(tmp_path / "in" / "images" / f"{name}.png", spots((3, 90, 200)).astype("u1"))
        some = spots((0, 1, 2, 3) if overlap else (0, 1, 2))
        for bit, structure in enumerate(("disc", "cup")):
            mask = (255 * (some >> bit & 1)).astype("u1")
            save(tmp_path / "in" / "masks" / f"{name}_{structure}.png", mask)
    region(tmp_path / "in")
    spec = "folder:images=images/*.png,masks=masks/{}_disc.png+masks/{}_cup.png"
    data = load_dataset(spec + (",rois=fov/{}.png" if rois else ""), tmp_path / "in")
    assert (data.load("c0").regions is not None) == overlap
    truths = written(data, tmp_path / "out")
    (said,) = {truth.read_with for truth in truths}
    assert truths[0].ignored == ("255" if rois else "")
    again = load_dataset(said, tmp_path / "out")
    same(again, data)
    assert again.class_names == data.class_names


def test_labels_of_a_plug_in_are_its_labels(tmp_path: Path) -> None:
    """With a free value for what it ignores."""
    data = load_dataset("phantom-cxr")
    case = data.load(data.entries("test")[0].case_id)
    ignored = case.labels.copy()
    ignored[:3] = -100
    some = replace(case, labels=ignored, ignore_index=-100)
    truth = write_truth(tmp_path, ignored, some, data)
    assert truth is not None
    numbers = "+".join(map(str, range(len(case.class_names))))
    said = f"folder:classes={'+'.join(case.class_names)},ignore=255,values={numbers}"
    assert (truth.ignored, truth.read_with) == ("255", said)
    found = np.asarray(Image.open(truth.path))
    np.testing.assert_array_equal(found, np.where(ignored == -100, 255, ignored))
