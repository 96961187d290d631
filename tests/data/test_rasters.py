"""Files to arrays: nothing lost in any mode, nothing broken accepted."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.data import raster_file, rasters
from segbench.data.coding import COLOUR
from segbench.data.faults import BadFileError

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (9, 7), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (9, 7, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (9, 7), dtype=np.uint16)


def saved(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif"])
def test_8_bit_gray_values_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    image, scale = rasters.read_image(saved(tmp_path / f"a.{suffix}", GRAY))
    assert (scale.low, scale.high, scale.bits) == (0, 255, 8)
    np.testing.assert_array_equal(np.rint(image[0] * 255), GRAY)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_values_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", DEEP)
    image, scale = rasters.read_image(path)
    assert (scale.bits, image.dtype, rasters.inspect_image(path).channels) == (16, np.float32, 1)
    np.testing.assert_array_equal(np.rint(image[0] * 65535), DEEP)


def test_channels_option_gives_luma_or_repeats_gray(tmp_path: Path) -> None:
    one, _ = rasters.read_image(saved(tmp_path / "a.png", RGB), channels=1)
    luma = RGB @ np.array([0.299, 0.587, 0.114]) / 255  # ITU-R 601
    assert np.abs(one[0] - luma).max() <= 1 / 255
    three, _ = rasters.read_image(saved(tmp_path / "b.png", GRAY), channels=3)
    np.testing.assert_array_equal(np.rint(three * 255), np.stack([GRAY] * 3))


def test_colour_masks_keep_gray_values_and_name_colours(tmp_path: Path) -> None:
    mask = np.zeros((4, 4, 3), dtype=np.uint8)
    mask[0] = 7
    mask[1] = (255, 0, 1)
    read = rasters.read_mask(saved(tmp_path / "m.png", mask))
    assert set(np.unique(read)) == {0, 7, COLOUR + 0xFF0001}


def test_a_bitmap_mask_has_the_values_0_and_255(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", (GRAY > 99).astype(np.uint8) * 255, mode="1")
    np.testing.assert_array_equal(rasters.read_mask(path) > 0, GRAY > 99)


def test_a_jpeg_mask_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "m.png", format="JPEG")
    with pytest.raises(BadFileError, match=r"m\.png is a JPEG, whose compression invents"):
        rasters.inspect_mask(tmp_path / "m.png")


def test_16_bit_colour_is_refused_and_not_silently_halved(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(12) for _ in range(2)))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(BadFileError, match="16 bits per colour channel"):
        rasters.inspect_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_truncated_file_is_found_without_decoding(tmp_path: Path, suffix: str) -> None:
    big = RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / f"a.{suffix}", big)
    data = path.read_bytes()
    if suffix == "tif":  # its directory may come last: cut pixels from where it says they end
        with Image.open(path) as picture:
            assert picture.size == (64, 64)
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(BadFileError, match=rf"a\.{suffix}"):
        rasters.inspect_image(path)


SMOOTH = np.add.outer(np.arange(96), np.arange(80)).astype(np.uint8)
KINDS_OF_JPEG = [
    {"quality": 80},
    {"quality": 95, "optimize": True},
    {"quality": 60, "progressive": True},
    {"quality": 100, "subsampling": 0},
]


def jpeg(array: np.ndarray, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", **how)
    return file.getvalue()


@pytest.mark.parametrize("how", KINDS_OF_JPEG, ids=str)
@pytest.mark.parametrize("array", [GRAY, RGB, SMOOTH, np.full((40, 40), 7, np.uint8)])
def test_a_whole_jpeg_is_read_whatever_follows_it(
    array: np.ndarray, how: dict[str, Any], tmp_path: Path
) -> None:
    content = jpeg(array, **how)
    for more in (b"", b"\0" * 9, b"not of the picture", b"\xff\xd9 again"):
        (tmp_path / "a.jpg").write_bytes(content + more)
        image, _ = rasters.read_image(tmp_path / "a.jpg")
        with Image.open(io.BytesIO(content)) as picture:
            same = np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
        np.testing.assert_array_equal(np.rint(image * 255), same)


@pytest.mark.parametrize("how", KINDS_OF_JPEG, ids=str)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_jpeg_cut_in_the_middle_is_refused_though_it_has_an_end_marker(
    share: float, how: dict[str, Any], tmp_path: Path
) -> None:
    big = RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = jpeg(big, **how)
    start = content.find(b"\xff\xda")
    kept = content[: start + 20 + int(share * (len(content) - start - 22))]
    (tmp_path / "a.jpg").write_bytes(kept + b"\xff\xd9")
    with pytest.raises(BadFileError, match=r"a\.jpg"):
        rasters.read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("read", [rasters.read_image, rasters.read_mask, rasters.inspect_image])
def test_a_named_pipe_is_not_waited_for(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadFileError, match=r"a\.png cannot be read \(it is a named pipe"):
        read(tmp_path / "a.png")


def test_a_text_file_called_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(BadFileError, match=r"a\.png is not an image that can be read"):
        rasters.inspect_image(tmp_path / "a.png")


def test_a_pixel_bomb_is_refused_from_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster_file, "MAX_PIXELS", 60)
    with pytest.raises(BadFileError, match="7 x 9 pixels, over the 60 allowed"):
        rasters.inspect_image(saved(tmp_path / "a.png", GRAY))
    wide = Image.new("1", (20_000, 20_000))  # beyond Pillow's own limit as well
    wide.save(tmp_path / "bomb.png")
    with pytest.raises(BadFileError, match=r"bomb\.png"):
        rasters.inspect_image(tmp_path / "bomb.png")


def test_an_image_of_several_frames_is_refused(tmp_path: Path) -> None:
    first, second = Image.fromarray(GRAY), Image.fromarray(255 - GRAY)
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    with pytest.raises(BadFileError, match="several frames"):
        rasters.inspect_image(tmp_path / "a.tif")
