"""Every ending that Pillow or SimpleITK registers is read as it was written, or refused and why."""

import json
import locale
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written import KINDS, LOSSY, ONE_BIT, by_pillow, picture_bytes, volume_files, write_volume

from segbench.data import load_dataset
from segbench.data.endings import (
    RASTER_SUFFIXES,
    REFUSED,
    SIMPLEITK_SUFFIXES,
    SUFFIXES,
    VOLUME_SUFFIXES,
    why_refused,
)
from segbench.data.faults import BadFileError
from segbench.data.rasters import inspect_image, inspect_mask, read_image, read_mask
from segbench.data.scale import OWN_SCALE, Scale
from segbench.data.volumes import inspect_volume, read_label_volume, read_voxels
from segbench.errors import UserError
from segbench.export.image_files import read_change, write_image

RANDOM = np.random.default_rng(0)
PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
RANGE = {".pfm": Scale((0, 255))}


def test_every_ending_that_pillow_registers_has_an_answer() -> None:
    Image.init()
    for ending in Image.registered_extensions():
        assert (ending in SUFFIXES) != bool(why_refused(ending)), ending


def test_every_ending_that_simpleitk_registers_has_an_answer() -> None:
    itk = pytest.importorskip("SimpleITK")
    found = {ending.lower() for ending in re.findall(r"\*(\.[\w.]+),", str(itk.ImageFileReader()))}
    assert {".mha", ".nrrd", ".vtk", ".dcm"} < found
    for ending in found - {".hdr"}:  # which lies beside its .img
        assert (ending in SUFFIXES) != bool(why_refused(ending)), ending


def test_the_page_names_every_ending_and_why() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    read = " ".join(row for row in rows if row.startswith(("| pictures", "| volumes")))
    assert set(re.findall(r"(?<=[` ])\.\w+(?:\.gz)?(?=[` ])", read)) - {".hdr"} == set(SUFFIXES)
    for why, endings in REFUSED.items():
        assert f"| `{' '.join(endings)}` | {why} |" in rows


def blocks(suffix: str) -> np.ndarray:
    """Gray squares, (48, 64): larger for what is compressed with loss."""
    side = 16 if suffix in LOSSY else 8
    values = RANDOM.integers(0, 256, (48 // side, 64 // side)).astype("u1")
    values = np.where(values > 127, 255, 0).astype("u1") if suffix in ONE_BIT else values
    return values.repeat(side, 0).repeat(side, 1)


def whole_picture(path: Path) -> None:
    inspect_image(path)
    read_image(path, scale=RANGE.get(path.suffix, OWN_SCALE))


@pytest.mark.parametrize("suffix", RASTER_SUFFIXES)
def test_a_picture_of_every_ending_is_read_as_it_was_written(suffix: str, tmp_path: Path) -> None:
    values = blocks(suffix)
    (path := tmp_path / f"a{suffix}").write_bytes(picture_bytes(suffix, values))
    image, scale = read_image(path, scale=RANGE.get(suffix, OWN_SCALE))
    header = inspect_image(path)
    assert image.shape == (header.channels, *values.shape)
    numbers = scale.low + image.astype(np.float64) * (scale.high - scale.low)
    tolerance = 12 if suffix in LOSSY else 1e-4
    assert np.abs(numbers - values).max() <= tolerance
    gray, _ = read_image(path, channels=1, scale=RANGE.get(suffix, OWN_SCALE))
    assert np.abs(gray[0] * 255 - values).max() <= tolerance


@pytest.mark.parametrize("suffix", RASTER_SUFFIXES)
def test_a_mask_of_every_ending_is_exact_or_refused(suffix: str, tmp_path: Path) -> None:
    values = blocks(suffix)
    (path := tmp_path / f"a{suffix}").write_bytes(picture_bytes(suffix, values))
    if suffix not in LOSSY:
        assert inspect_mask(path) == values.shape
        np.testing.assert_array_equal(read_mask(path), values)
        return
    for read in (inspect_mask, read_mask):
        with pytest.raises(BadFileError, match=r"a\.\w+ is an? \w+, whose compression invents"):
            read(path)


@pytest.mark.parametrize("suffix", RASTER_SUFFIXES)
def test_a_picture_of_every_ending_that_is_cut_is_refused(suffix: str, tmp_path: Path) -> None:
    whole = picture_bytes(suffix, blocks(suffix))
    path = tmp_path / f"a{suffix}"
    for share in (0, 0.02, 0.1, 0.3, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BadFileError, match=path.name):
            whole_picture(path)


def needs(suffix: str) -> None:
    if suffix in SIMPLEITK_SUFFIXES:
        pytest.importorskip("SimpleITK")


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_a_volume_of_every_ending_is_read_as_it_was_written(suffix: str, tmp_path: Path) -> None:
    """To ITK's left, back and head, which the canonical axes turn about."""
    needs(suffix)
    voxels = RANDOM.integers(0, 120, (6, 7, 5))
    write_volume(path := tmp_path / f"a{suffix}", voxels)
    header = inspect_volume(path)
    assert header.spacing == pytest.approx((0.5, 0.75, 2.0))
    assert header.bits == 8 * np.dtype(KINDS.get(suffix, "u1")).itemsize
    np.testing.assert_array_equal(read_voxels(path)[0], voxels[::-1, ::-1])
    np.testing.assert_array_equal(read_label_volume(path), voxels[::-1, ::-1])


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_reading_leaves_the_locale_as_it_was(suffix: str, tmp_path: Path) -> None:
    """ITK's VTK reader sets it to C, and texts with an accent could not be opened any more."""
    needs(suffix)
    write_volume(path := tmp_path / f"a{suffix}", RANDOM.integers(0, 120, (6, 7, 5)))
    before = locale.setlocale(locale.LC_ALL)
    read_voxels(path)
    assert locale.setlocale(locale.LC_ALL) == before


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_a_volume_of_every_ending_that_is_cut_is_refused(
    suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    needs(suffix)
    voxels = RANDOM.integers(0, 120, (6, 7, 5))
    write_volume(path := tmp_path / f"a{suffix}", voxels)
    for holder in sorted(tmp_path.iterdir()):
        whole = holder.read_bytes()
        for share in (0, 0.02, 0.1, 0.3, 0.6, *((0.9,) if holder.suffix != ".spr" else ())):
            holder.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(BadFileError, match=path.name):
                read_voxels(path)
        holder.write_bytes(whole)
    said = capfd.readouterr()  # that of the libraries below Python, too
    assert said.out + said.err == ""


@pytest.mark.parametrize("suffix", [*VOLUME_SUFFIXES, ".webp", ".pgm", ".jp2", ".PNG", ".hdr"])
def test_nnunet_takes_every_ending(suffix: str, tmp_path: Path) -> None:
    needs(suffix)
    own = suffix.lower() if suffix != ".hdr" else ".img"
    for n in range(2):
        for folder, name in (("imagesTr", f"c{n}_0000"), ("labelsTr", f"c{n}")):
            values = RANDOM.integers(0, 3, (6, 7, 5))
            path = tmp_path / folder / f"{name}{suffix if own != '.img' else own}"
            if own in VOLUME_SUFFIXES:
                write_volume(path, values)
                continue
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(picture_bytes(own, values[..., 0].astype("u1")))
    channels = {str(k): f"m{k}" for k in range(3 if suffix == ".webp" else 1)}
    labels = {"background": 0, "a": 1, "b": 2}
    description = {"channel_names": channels, "labels": labels, "file_ending": suffix}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    spec = "nnunet:window=0..2" if own in VOLUME_SUFFIXES else "nnunet"
    case = load_dataset(spec, tmp_path).load("c1")
    assert case.image.shape == (len(channels), *case.labels.shape)
    assert set(np.unique(case.labels)) == {0, 1, 2}
    written = write_image(tmp_path / "out", case.image, case)
    assert not read_change(written, case).any()


@pytest.mark.parametrize("ending", [".eps", ".dcm", ".FITS"])
def test_nnunet_says_why_an_ending_is_not_read(ending: str, tmp_path: Path) -> None:
    description = {"channel_names": {"0": "a"}, "labels": {"background": 0, "a": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(description | {"file_ending": ending}))
    with pytest.raises(UserError, match=f"{ending}', which is not read: .*{why_refused(ending)}"):
        load_dataset("nnunet", tmp_path)


# ------------------------------------------------------------------------ what a PGM says is white


def pnm(magic: int, values: np.ndarray, white: int) -> bytes:
    height, width = values.shape[:2]
    head = f"P{magic}\n# a comment\n{width} {height}\n{white}\n".encode()
    if magic in (2, 3):
        return head + "\n".join(" ".join(map(str, row.ravel())) for row in values).encode() + b"\n"
    return head + values.astype(">u2" if white > 255 else "u1").tobytes()


@pytest.mark.parametrize("white", [1, 2, 3, 15, 100, 254, 255, 256, 1000, 4095, 65535])
@pytest.mark.parametrize("magic", [2, 5])
def test_the_maximum_of_a_pgm_is_white_and_its_numbers_are_labels(
    magic: int, white: int, tmp_path: Path
) -> None:
    values = RANDOM.integers(0, white + 1, (5, 7))
    (path := tmp_path / "a.pgm").write_bytes(pnm(magic, values, white))
    image, scale = read_image(path)
    np.testing.assert_allclose(image[0], values / white, atol=1e-6)
    assert scale.high == white
    np.testing.assert_array_equal(read_mask(path), values)
    path.write_bytes(pnm(magic, values, white)[:-1])
    with pytest.raises(BadFileError, match=r"a\.pgm is cut short"):
        inspect_image(path)  # of text, where its last number may go on


@pytest.mark.parametrize("magic", [3, 6])
def test_the_maximum_of_a_ppm(magic: int, tmp_path: Path) -> None:
    values = RANDOM.integers(0, 101, (5, 7, 3))
    (path := tmp_path / "a.ppm").write_bytes(pnm(magic, values, 100))
    np.testing.assert_allclose(read_image(path)[0], values.transpose(2, 0, 1) / 100, atol=1e-6)
    path.write_bytes(pnm(magic, values, 4095))
    with pytest.raises(BadFileError, match="12 bits per colour channel"):
        inspect_image(path)


def test_a_number_above_the_maximum_is_refused(tmp_path: Path) -> None:
    values = np.full((5, 7), 3)
    (path := tmp_path / "a.pgm").write_bytes(pnm(5, values, 2))
    with pytest.raises(BadFileError, match="holds the value 3; its white is 2"):
        inspect_image(path)


@pytest.mark.parametrize("magic", [4, 5])
def test_line_ends_that_were_changed_on_the_way_are_noticed(magic: int, tmp_path: Path) -> None:
    """The carriage return would be the white space, and the line feed the first pixel."""
    suffix, content = (".pbm", b"P4\n7 5\n") if magic == 4 else (".pgm", b"P5\n7 5\n255\n")
    content += RANDOM.integers(33, 99, 5 if magic == 4 else 35).astype("u1").tobytes()
    (path := tmp_path / f"a{suffix}").write_bytes(content)
    inspect_image(path)
    changed = content.replace(b"\n", b"\r\n")
    for written in (changed, changed[:-1]):  # the latter has as many bytes as it should
        path.write_bytes(written)
        with pytest.raises(BadFileError, match=r"bytes of pixels where .* ends that were changed"):
            inspect_image(path)


# ----------------------------------------------------------------- of JPEG 2000, WebP and AVIF


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 16])
def test_the_bits_of_a_jpeg_2000_are_its_own(bits: int, tmp_path: Path) -> None:
    openjpeg = pytest.importorskip("openjpeg.utils")
    values = RANDOM.integers(0, 2**bits, (33, 40)).astype("u1" if bits <= 8 else "u2")
    coded = openjpeg.encode_array(values, bits_stored=bits, photometric_interpretation=2)
    (path := tmp_path / "a.j2k").write_bytes(coded)
    image, scale = read_image(path)
    np.testing.assert_allclose(image[0], values / (2**bits - 1), atol=1e-6)
    assert scale.bits == bits
    np.testing.assert_array_equal(read_mask(path), values)


def test_a_jpeg_2000_of_signed_numbers_or_of_wide_colours_is_refused(tmp_path: Path) -> None:
    openjpeg = pytest.importorskip("openjpeg.utils")
    signed = RANDOM.integers(-100, 100, (33, 40)).astype("i2")
    (tmp_path / "a.j2k").write_bytes(openjpeg.encode_array(signed, photometric_interpretation=2))
    with pytest.raises(BadFileError, match="signed numbers"):
        inspect_image(tmp_path / "a.j2k")
    colour = RANDOM.integers(0, 4096, (33, 40, 3)).astype("u2")
    coded = openjpeg.encode_array(colour, bits_stored=12, photometric_interpretation=1)
    (tmp_path / "b.j2k").write_bytes(coded)
    with pytest.raises(BadFileError, match="12 bits per colour channel"):
        inspect_image(tmp_path / "b.j2k")


WITH_LOSS: dict[str, Callable[[np.ndarray], bytes]] = {
    "JPEG 2000": lambda v: by_pillow(".jp2", v, irreversible=True, quality_layers=[2]),
    "WebP": lambda v: by_pillow(".webp", np.repeat(v[..., None], 3, -1), quality=60),
    "texture": lambda v: by_pillow(".dds", np.repeat(v[..., None], 3, -1), pixel_format="DXT1"),
}


@pytest.mark.parametrize("kind", WITH_LOSS)
def test_what_is_compressed_with_loss_is_an_image_and_no_mask(kind: str, tmp_path: Path) -> None:
    suffix = {"JPEG 2000": ".jp2", "WebP": ".webp", "texture": ".dds"}[kind]
    values = blocks(".jpg")
    (path := tmp_path / f"a{suffix}").write_bytes(WITH_LOSS[kind](values))
    assert np.abs(read_image(path, channels=1)[0][0] * 255 - values).mean() < 5
    with pytest.raises(BadFileError, match=f"is a {kind}, whose compression invents mask values"):
        inspect_mask(path)


@pytest.mark.parametrize("suffix", [".webp", ".jp2"])
def test_a_picture_under_another_name_is_what_it_is(suffix: str, tmp_path: Path) -> None:
    values = blocks(suffix)
    (path := tmp_path / "a.png").write_bytes(picture_bytes(suffix, values))
    np.testing.assert_array_equal(read_mask(path), values)


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_an_orientation_is_obeyed_in_every_format_that_has_one(suffix: str, tmp_path: Path) -> None:
    values = blocks(".jpg")
    said = Image.Exif()
    said[0x0112] = 6
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95}
    colour = np.repeat(values[..., None], 3, -1)
    content = by_pillow(suffix, colour, exif=said.tobytes(), **options)
    (path := tmp_path / f"a{suffix}").write_bytes(content)
    image, _ = read_image(path, channels=1)
    assert np.abs(image[0] * 255 - np.rot90(values, -1)).max() <= 12


# ------------------------------------------------------------------ what ITK would read otherwise


def test_bytes_of_an_mrc_that_may_be_negative_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    voxels = RANDOM.integers(0, 255, (6, 7, 5)).astype("u1")
    (tmp_path / "a.mrc").write_bytes(volume_files(".mrc", voxels)[".mrc"])
    with pytest.raises(BadFileError, match=r"a\.mrc cannot be read \(it holds bytes above 127"):
        read_voxels(tmp_path / "a.mrc")


def test_wide_whole_numbers_of_stimulate_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    for ending, content in volume_files(".spr", RANDOM.integers(0, 9, (6, 7, 5), "i4")).items():
        (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises(BadFileError, match=r"32 bits, which ITK takes for 16"):
        read_voxels(tmp_path / "a.spr")


def test_bytes_behind_the_voxels_are_refused(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    for suffix in (".nrrd", ".mha"):
        image = itk.GetImageFromArray(RANDOM.integers(0, 9, (5, 7, 6)).astype("i2"))
        itk.WriteImage(image, str(path := tmp_path / f"a{suffix}"), False)
        read_voxels(path)
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(BadFileError, match="1 bytes behind its voxels"):
            read_voxels(path)


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_vtk_of_text_is_read_where_its_last_number_has_an_end(end: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    voxels = RANDOM.integers(0, 120, (6, 7, 5))
    text = (
        "# vtk DataFile Version 3.0\na volume\nASCII\nDATASET STRUCTURED_POINTS\n"
        "DIMENSIONS 6 7 5\nSPACING 0.5 0.75 2\nORIGIN 0 0 0\nPOINT_DATA 210\n"
        "SCALARS scalars short 1\nLOOKUP_TABLE default\n"
    )
    text += " ".join(map(str, voxels.transpose(2, 1, 0).ravel())) + end
    (path := tmp_path / "a.vtk").write_text(text)
    if end:
        np.testing.assert_array_equal(read_voxels(path)[0], voxels[::-1, ::-1])
        return
    with pytest.raises(BadFileError, match=r"a\.vtk .*or a part of the last"):
        read_voxels(path)
