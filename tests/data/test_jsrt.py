"""JSRT: the original release and the PNG release are the same cases."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segbench.data import load_dataset
from segbench.data.layouts.jsrt import JSRT
from segbench.errors import UserError
from segbench.export.image_files import read_written, write_image
from segbench.export.truth_files import write_truth

NAMES = ("JPCLN001", "JPCLN002", "JPCNN001")
BOXES = {"right lung": (200, 200, 440, 800), "left lung": (560, 200, 800, 700)}
BOXES["heart"] = (480, 600, 700, 800)


def outline(structure: str, shift: int) -> Image.Image:
    mask = Image.new("L", (1024, 1024))
    left, top, right, bottom = BOXES[structure]
    ImageDraw.Draw(mask).ellipse((left + shift, top, right + shift, bottom), fill=255)
    return mask


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    (root / "All247images").mkdir()
    y, x = np.mgrid[:2048, :2048]
    for index, name in enumerate(NAMES):
        density = ((x + 2 * y + 300 * index) % 4096).astype(">u2")
        density.tofile(root / "All247images" / f"{name}.IMG")
        for structure in BOXES:
            folder = root / "scratch" / f"fold{1 + index % 2}" / "masks" / structure
            folder.mkdir(parents=True, exist_ok=True)
            outline(structure, 40 * index).save(folder / f"{name}.gif")
    return root


def png_release(root: Path, side: int) -> Path:
    """The same outlines as PNGs, coded as the public PNG release codes them."""
    for folder in ("images", "masks", "masks_multiclass"):
        (root / folder).mkdir(parents=True)
    for index, name in enumerate(NAMES):
        Image.new("L", (side, side), index).save(root / "images" / f"{name}.png")
        small = {
            structure: np.asarray(
                outline(structure, 40 * index).resize((side, side), Image.Resampling.NEAREST)
            )
            > 0
            for structure in BOXES
        }
        lungs = small["left lung"] | small["right lung"]
        Image.fromarray(lungs.astype(np.uint8) * 255).save(root / "masks" / f"{name}.png")
        coded = np.select([small["heart"], small["left lung"], small["right lung"]], [3, 2, 1], 0)
        Image.fromarray(coded.astype(np.uint8)).save(root / "masks_multiclass" / f"{name}.png")
    return root


@pytest.mark.parametrize("structures", ["lungs", "lungs-heart"])
def test_both_releases_give_the_same_labels(
    original: Path, tmp_path: Path, structures: str
) -> None:
    spec = f"jsrt:structures={structures}"
    one, two = load_dataset(spec, original), load_dataset(spec, png_release(tmp_path, 256))
    assert one.class_names == two.class_names
    for split in ("train", "test"):
        assert one.entries(split) == two.entries(split)
        for entry in one.entries(split):
            np.testing.assert_array_equal(
                one.load(entry.case_id).labels, two.load(entry.case_id).labels
            )


def test_left_is_the_patients_and_lies_on_the_right(original: Path) -> None:
    data = JSRT(root=original, structures="lungs-heart")
    case = data.load("JPCLN001")
    columns = {
        name: np.nonzero(case.labels == index)[1].mean()
        for index, name in enumerate(case.class_names)
    }
    assert columns["right lung"] < columns["heart"] < columns["left lung"]


def test_the_original_is_inverted_and_the_map_leads_back(original: Path) -> None:
    data = JSRT(root=original, size=2048)
    case = data.load("JPCLN002")
    raw = np.fromfile(original / "All247images" / "JPCLN002.IMG", ">u2").reshape(2048, 2048)
    assert case.intensity is not None
    (scale,) = case.intensity
    low, high, bits = scale.low, scale.high, scale.bits
    assert (low, high, bits) == (4095.0, 0.0, 12)
    np.testing.assert_array_equal(np.rint(low + case.image[0] * (high - low)), raw)
    assert case.spacing == pytest.approx((0.175, 0.175))


def test_the_split_is_by_parity_of_the_sorted_names(original: Path) -> None:
    data = JSRT(root=original)
    assert [e.case_id for e in data.entries("train")] == ["JPCLN001", "JPCNN001"]
    assert [e.case_id for e in data.entries("test")] == ["JPCLN002"]
    assert data.entries("test")[0].shape == (1, 256, 256)


def test_all_bad_originals_are_named_at_once(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.IMG").write_bytes(b"\0" * 10)
    for structure in ("left lung", "right lung"):
        folder = tmp_path / "fold1" / "masks" / structure
        folder.mkdir(parents=True)
        Image.new("L", (512, 512)).save(folder / "JPCLN001.gif")
        outline(structure, 0).save(folder / "JPCLN999.gif")
    with pytest.raises(UserError) as caught:
        JSRT(root=tmp_path)
    for part in (
        "JPCLN001.IMG has 10 bytes; expected 8388608",
        "JPCLN001.gif is 512 x 512 pixels; expected 1024 x 1024",
        "JPCLN002.IMG has no SCR mask of left lung and right lung",
        "JPCLN999.gif has no .IMG file",
    ):
        assert part in str(caught.value)


def test_values_beyond_12_bits_are_refused(original: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").symlink_to(original / "scratch")
    for name in NAMES:
        np.full(2048 * 2048, 5000, ">u2").tofile(tmp_path / f"{name}.IMG")
    with pytest.raises(UserError, match=r"JPCLN001\.IMG holds the value 5000"):
        JSRT(root=tmp_path).load("JPCLN001")


def test_a_folder_without_jsrt_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no JSRT; expected \.IMG files"):
        JSRT(root=tmp_path)


def test_an_image_of_the_original_release_is_written_as_a_picture(
    original: Path, tmp_path: Path
) -> None:
    """In its 12 bits; its moved truth as labels, each lung having a mask of its own."""
    data = load_dataset("jsrt:size=64", original)
    case = data.load(NAMES[0])
    path = write_image(tmp_path / "out", case.image, case, data.image_files(NAMES[0]))
    assert path.suffix == ".png"
    np.testing.assert_allclose(read_written(path, case), case.image, atol=1 / 4095)
    truth = write_truth(tmp_path / "truth", case.labels, case, data)
    assert truth is not None
    assert truth.read_with == "folder:classes=background+lung,values=0+1"
    np.testing.assert_array_equal(np.asarray(Image.open(truth.path)), case.labels)
