"""What a file says about its own pixels is obeyed or refused: every header that can be written.

The pictures are written here byte by byte, so that no library decides what is right.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from segbench.data.coding import COLOUR
from segbench.data.faults import BadFileError
from segbench.data.rasters import (
    inspect_image,
    inspect_mask,
    read_image,
    read_mask,
    read_mask_and_palette,
)
from segbench.data.scale import OWN_SCALE, Scale
from segbench.errors import UserError

RANDOM = np.random.default_rng(0)
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF 2.32, 4.6.4 A: stored to seen
    1: lambda s: s,
    2: lambda s: s[:, ::-1],
    3: lambda s: s[::-1, ::-1],
    4: lambda s: s[::-1],
    5: lambda s: s.swapaxes(0, 1),
    6: lambda s: np.rot90(s, -1),
    7: lambda s: s[::-1, ::-1].swapaxes(0, 1),
    8: lambda s: np.rot90(s),
}


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of numbers of so many bits, each row from a byte of its own, most significant first."""
    rows = ["".join(f"{v:0{bits}b}" for v in row) for row in values.reshape(len(values), -1)]
    rows = [row + "0" * (-len(row) % 8) for row in rows]
    return b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)


def tiff(
    path: Path,
    values: np.ndarray,
    *,
    photometric: int | None = 1,
    bits: int = 0,
    sample_format: int = 1,
    endian: str = "<",
    turn: int = 0,
    planar: int = 1,
    extra: Sequence[int] = (),
    palette: np.ndarray | None = None,
) -> Path:
    """One strip, or one for each plane, uncompressed (TIFF 6.0)."""
    samples = 1 if values.ndim == 2 else values.shape[2]
    bits = bits or 8 * values.dtype.itemsize
    tags = {
        258: shorts([bits] * samples),
        259: shorts([1]),
        262: shorts([] if photometric is None else [photometric]),
        274: shorts([turn] if turn else []),
        277: shorts([samples]),
        284: shorts([planar]),
        320: shorts([] if palette is None else (palette.T.reshape(-1).astype(int) * 257).tolist()),
        338: shorts(list(extra)),
        339: shorts([sample_format] * samples),
    }
    said = {tag: value for tag, value in tags.items() if value[1]}
    path.write_bytes(
        tiff_bytes(said, values.shape[:2], strips(values, bits, planar, endian), endian)
    )
    return path


Tag = tuple[str, list[int]]
"""The letter of struct for its numbers, and they."""


def shorts(numbers: list[int]) -> Tag:
    return "H", numbers


def strips(values: np.ndarray, bits: int, planar: int, endian: str) -> list[bytes]:
    """All pixels, or those of each plane."""
    if bits % 8:
        return [packed(values, bits)]
    ordered = values.astype(values.dtype.newbyteorder(endian))
    planes = np.moveaxis(ordered, -1, 0) if planar == 2 else [ordered]
    return [np.ascontiguousarray(plane).tobytes() for plane in planes]


def tiff_bytes(
    tags: dict[int, Tag], size: tuple[int, ...], planes: list[bytes], endian: str
) -> bytes:
    """A header, the pixels, what does not fit into the directory, and the directory."""
    height, width = size
    body, offsets = b"", []
    for plane in planes:
        offsets.append(8 + len(body))
        body += plane + b"\0" * (len(plane) % 2)
    places = {256: [width], 257: [height], 273: offsets, 278: [height], 279: list(map(len, planes))}
    tags = tags | {tag: ("I", numbers) for tag, numbers in places.items()}
    entries = b""
    for tag, (letter, numbers) in sorted(tags.items()):
        data = struct.pack(f"{endian}{len(numbers)}{letter}", *numbers)
        place = data.ljust(4, b"\0")
        if len(data) > 4:
            place = struct.pack(f"{endian}I", 8 + len(body))
            body += data + b"\0" * (len(data) % 2)
        entries += struct.pack(f"{endian}HHI", tag, 3 if letter == "H" else 4, len(numbers)) + place
    head = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(f"{endian}I", 8 + len(body))
    return head + body + struct.pack(f"{endian}H", len(tags)) + entries + b"\0" * 4


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exif(turn: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, turn, 0, 0)


def png(
    path: Path,
    values: np.ndarray,
    *,
    bits: int = 8,
    turn: int = 0,
    palette: np.ndarray | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> Path:
    """PNG, third edition; ``before`` and ``after`` are chunks around the pixels."""
    samples = 1 if values.ndim == 2 else values.shape[2]
    kind = 3 if palette is not None else {1: 0, 2: 4, 3: 2, 4: 6}[samples]
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, kind, 0, 0, 0)
    width = len(packed(values[:1], bits))
    data = packed(values, bits)
    rows = b"".join(b"\0" + data[at : at + width] for at in range(0, len(data), width))
    chunks = chunk(b"IHDR", head)
    if palette is not None:
        chunks += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    chunks += chunk(b"eXIf", exif(turn)) if turn else b""
    chunks += before + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def whole(top: int, *shape: int) -> np.ndarray:
    return RANDOM.integers(0, top + 1, shape or (5, 7))


def seen(path: Path, scale: Scale = OWN_SCALE) -> np.ndarray:
    """The file's numbers as they are read: an image's, (H, W) or (H, W, 3)."""
    image, known = read_image(path, scale=scale)
    numbers = known.low + image.astype(np.float64) * (known.high - known.low)
    header = inspect_image(path)
    assert image.shape == (header.channels, header.height, header.width)
    return numbers[0] if len(numbers) == 1 else numbers.transpose(1, 2, 0)


# ----------------------------------------------------------------------------------- what is obeyed


@pytest.mark.parametrize("turn", [0, *TURNS])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_a_gray_tiff(kind: str, photometric: int, endian: str, turn: int, tmp_path: Path) -> None:
    top = np.iinfo(kind).max
    values = whole(top).astype(kind)
    path = tiff(tmp_path / "a.tif", values, photometric=photometric, endian=endian, turn=turn)
    if (kind, photometric, endian) == ("u2", 0, ">"):  # which the decoder does not know
        with pytest.raises(BadFileError, match="is not an image that can be read"):
            read_image(path)
        return
    right = TURNS[turn or 1](values if photometric == 1 else top - values)
    np.testing.assert_allclose(seen(path), right, atol=1e-3)
    np.testing.assert_array_equal(read_mask(path), right)
    assert inspect_mask(path) == right.shape


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
@pytest.mark.parametrize("photometric", [0, 1])
def test_a_tiff_of_odd_bits(bits: int, photometric: int, tmp_path: Path) -> None:
    top = 2**bits - 1
    if bits == 12 and photometric == 0:
        return  # no decoder here; see what is refused
    path = tiff(tmp_path / "a.tif", values := whole(top), photometric=photometric, bits=bits)
    right = (values if photometric == 1 else top - values) / top
    image, scale = read_image(path)
    np.testing.assert_allclose(image[0], right, atol=1e-6)
    assert scale.high == (4095 if bits == 12 else 255)


NUMBERS = [("i1", 2), ("i2", 2), ("i4", 2), ("u4", 1), ("f4", 3)]


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize(("kind", "sample_format"), NUMBERS)
def test_numbers_without_black_and_white_need_a_range(
    kind: str, sample_format: int, endian: str, tmp_path: Path
) -> None:
    low, high = (0, 4_000_000_000) if kind == "u4" else (-100, 27)
    values = RANDOM.uniform(low, high, (5, 7)).astype(kind)
    path = tiff(tmp_path / "a.tif", values, sample_format=sample_format, endian=endian)
    if (kind, endian) == ("u4", ">"):  # which the decoder does not know
        with pytest.raises(BadFileError, match="is not an image that can be read"):
            read_image(path)
        return
    with pytest.raises(BadFileError, match=r"a\.tif holds .* range=LOW\.\.HIGH"):
        read_image(path)
    np.testing.assert_allclose(seen(path, Scale((low, high))), values, rtol=1e-6, atol=1e-4)
    if kind != "f4":
        np.testing.assert_array_equal(read_mask(path), values)
    else:
        with pytest.raises(BadFileError, match="between whole numbers"):
            read_mask(path)
        tiff(path, np.rint(values).astype("f4"), sample_format=3)
        np.testing.assert_array_equal(read_mask(path), np.rint(values))


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("turn", [0, 3, 6])
def test_a_colour_tiff(planar: int, turn: int, tmp_path: Path) -> None:
    values = whole(255, 5, 7, 3).astype("u1")
    path = tiff(tmp_path / "a.tif", values, photometric=2, planar=planar, turn=turn)
    np.testing.assert_allclose(seen(path), TURNS[turn or 1](values), atol=1e-4)


@pytest.mark.parametrize("turn", [0, *TURNS])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_gray_png(bits: int, turn: int, tmp_path: Path) -> None:
    top = 2**bits - 1
    path = png(tmp_path / "a.png", values := whole(top), bits=bits, turn=turn)
    right = TURNS[turn or 1](values)
    image, scale = read_image(path)
    np.testing.assert_allclose(image[0], right / top, atol=1e-6)
    np.testing.assert_allclose(read_mask(path) / scale.high, right / top, atol=1e-6)


@pytest.mark.parametrize("place", ["before", "after"])
def test_an_orientation_is_obeyed_wherever_in_a_png_it_stands(place: str, tmp_path: Path) -> None:
    values = whole(255)
    path = png(tmp_path / "a.png", values, **{place: chunk(b"eXIf", exif(6))})
    np.testing.assert_allclose(seen(path), TURNS[6](values), atol=1e-4)


@pytest.mark.parametrize("turn", [0, *TURNS])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_jpeg(samples: int, turn: int, tmp_path: Path) -> None:
    blocks = whole(255, 3, 4, samples).astype("u1").repeat(16, 0).repeat(16, 1)
    picture = Image.fromarray(blocks if samples == 3 else blocks[..., 0])
    said = {"exif": b"Exif\0\0" + exif(turn)} if turn else {}
    picture.save(tmp_path / "a.jpg", quality=95, subsampling=0, **said)
    right = TURNS[turn or 1](np.asarray(picture))
    assert np.abs(seen(tmp_path / "a.jpg") - right).max() <= 12  # of 255, by compression


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_gray_palette_is_gray_values(bits: int, tmp_path: Path) -> None:
    count = min(2**bits, 6)
    grays = RANDOM.permutation(256)[:count]
    palette = np.repeat(grays[:, None], 3, 1)
    path = png(tmp_path / "a.png", values := whole(count - 1), bits=bits, palette=palette)
    np.testing.assert_array_equal(read_mask(path), grays[values])
    np.testing.assert_allclose(seen(path), grays[values], atol=1e-4)


def colour_palette(path: Path, values: np.ndarray, palette: np.ndarray) -> Path:
    if path.suffix == ".png":
        return png(path, values, palette=palette)
    full = np.zeros((256, 3), int)
    full[: len(palette)] = palette
    if path.suffix == ".tif":
        return tiff(path, values.astype("u1"), photometric=3, palette=full)
    picture = Image.fromarray(values.astype("u1")).convert("P")
    picture.putdata(values.ravel().tolist())
    picture.putpalette(full.reshape(-1).tolist())
    picture.save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "gif", "bmp"])
def test_a_colour_palette_is_colours_and_says_its_indices(suffix: str, tmp_path: Path) -> None:
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 200, 50]])
    values = np.arange(35).reshape(5, 7) % 3
    path = colour_palette(tmp_path / f"a.{suffix}", values, palette)
    np.testing.assert_allclose(seen(path), palette[values], atol=1)
    red, green = COLOUR + 0xFF0000, COLOUR + 0x00C832
    mask, indices = read_mask_and_palette(path)
    np.testing.assert_array_equal(mask, np.array([0, red, green])[values])
    if suffix != "gif":  # whose writer sorts the palette
        assert indices == {0: 0, red: 1, green: 2}


def test_what_does_not_say_how_to_read_pixels_changes_nothing(tmp_path: Path) -> None:
    values = whole(65535)
    said = chunk(b"sBIT", b"\x0c") + chunk(b"gAMA", struct.pack(">I", 45455))
    path = png(tmp_path / "a.png", values, bits=16, before=said, after=chunk(b"tEXt", b"a\0b"))
    np.testing.assert_allclose(seen(path), values, atol=1e-2)


def test_bits_and_ranges_say_what_is_white(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", values := whole(4095), bits=16)
    image, scale = read_image(path, scale=Scale(bits=12))
    np.testing.assert_allclose(image[0], values / 4095, atol=1e-6)
    assert (scale.high, scale.bits) == (4095, 12)
    image, _ = read_image(path, scale=Scale((1000, 2000)))
    np.testing.assert_allclose(image[0], np.clip((values - 1000) / 1000, 0, 1), atol=1e-6)
    with pytest.raises(BadFileError, match=rf"value {values.max()}; bits=10 go to 1023"):
        read_image(path, scale=Scale(bits=10))
    for wrong in ({"bits": 17}, {"ends": (0, 9), "bits": 3}):
        with pytest.raises(UserError):
            Scale(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- what is refused


def profile(name: str) -> bytes:
    """A colour profile: sRGB's own, or one that turns red and blue about."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if name != "sRGB":
        count = struct.unpack(">I", content[128:132])[0]
        at = {bytes(content[132 + 12 * n : 136 + 12 * n]): 136 + 12 * n for n in range(count)}
        red, blue = at[b"rXYZ"], at[b"bXYZ"]
        content[red : red + 8], content[blue : blue + 8] = (
            content[blue : blue + 8],
            content[red : red + 8],
        )
    return bytes(content)


def with_profile(path: Path, name: str) -> Path:
    picture = Image.fromarray(whole(255, 5, 7, 3).astype("u1"))
    picture.save(path, icc_profile=profile(name))
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_srgb_is_what_colours_are_and_another_profile_is_refused(
    suffix: str, tmp_path: Path
) -> None:
    inspect_image(with_profile(tmp_path / f"a.{suffix}", "sRGB"))
    with pytest.raises(BadFileError, match=rf"a\.{suffix} carries the colour profile .*not sRGB"):
        inspect_image(with_profile(tmp_path / f"a.{suffix}", "turned"))


def rgb(*shape: int) -> np.ndarray:
    return whole(255, *shape).astype("u1")


def test_the_colour_profile_of_a_jpeg_2000_is_looked_at(tmp_path: Path) -> None:
    """Of its box ``colr``, whose second method is a profile (ISO/IEC 15444-1, I.5.3.3)."""
    Image.fromarray(rgb(33, 40, 3)).save(path := tmp_path / "a.jp2")
    whole = path.read_bytes()
    at, outer = whole.index(b"colr") - 4, whole.index(b"jp2h") - 4
    old, size = struct.unpack_from(">I", whole, at)[0], struct.unpack_from(">I", whole, outer)[0]
    for name in ("sRGB", "turned"):
        box = b"colr\2\0\0" + profile(name)
        box = struct.pack(">I", 4 + len(box)) + box
        head = whole[:outer] + struct.pack(">I", size - old + len(box)) + whole[outer + 4 : at]
        path.write_bytes(head + box + whole[at + old :])
        if name == "sRGB":
            inspect_image(path)
    with pytest.raises(BadFileError, match=r"a\.jp2 carries the colour profile .*not sRGB"):
        inspect_image(path)


def several(path: Path) -> Path:
    pages = [Image.fromarray(rgb(5, 7)) for _ in range(2)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no photometric": (lambda p: tiff(p / "a.tif", rgb(5, 7), photometric=None), "interpretation"),
    "CMYK": (lambda p: tiff(p / "a.tif", rgb(5, 7, 4), photometric=5), "photometric inter"),
    "LAB": (lambda p: tiff(p / "a.tif", rgb(5, 7, 3), photometric=8), "photometric inter"),
    "orientation 9": (lambda p: tiff(p / "a.tif", rgb(5, 7), turn=9), "orientation 9"),
    "png orientation 9": (lambda p: png(p / "a.png", rgb(5, 7), turn=9), "orientation 9"),
    "unspecified sample": (
        lambda p: tiff(p / "a.tif", rgb(5, 7, 4), photometric=2, extra=[0]),
        "further sample",
    ),
    "16-bit colour": (
        lambda p: tiff(p / "a.tif", rgb(5, 7, 3).astype("u2"), photometric=2),
        "16 bits per colour channel",
    ),
    "16-bit colour png": (
        lambda p: png(p / "a.png", rgb(5, 7, 3), bits=16),
        "16 bits per colour channel",
    ),
    "16-bit gray with alpha": (
        lambda p: png(p / "a.png", rgb(5, 7, 2), bits=16),
        "16 bits per colour channel",
    ),
    "float, white is 0": (
        lambda p: tiff(p / "a.tif", rgb(5, 7).astype("f4"), photometric=0, sample_format=3),
        "white is 0",
    ),
    "12 bits, white is 0": (
        lambda p: tiff(p / "a.tif", rgb(5, 8), photometric=0, bits=12),
        "is not an image that can be read",
    ),
    "half precision": (
        lambda p: tiff(p / "a.tif", rgb(5, 7).astype("f2"), sample_format=3),
        "cannot be read|is not an image",
    ),
    "pages": (lambda p: several(p / "a.tif"), "several frames"),
    "frames": (lambda p: several(p / "a.gif"), "several frames"),
    "animated png": (lambda p: several(p / "a.png"), "several frames"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_obeyed_is_refused_for_images_and_masks(kind: str, tmp_path: Path) -> None:
    write, words = REFUSED[kind]
    path = write(tmp_path)
    for read in (inspect_image, inspect_mask, read_image, read_mask):
        with pytest.raises(BadFileError, match=words):
            read(path)


@pytest.mark.parametrize("compression", ["jpeg"])
def test_a_lossy_tiff_is_no_mask(compression: str, tmp_path: Path) -> None:
    Image.fromarray(rgb(32, 32)).save(tmp_path / "a.tif", compression=compression)
    inspect_image(tmp_path / "a.tif")
    with pytest.raises(BadFileError, match="JPEG, whose compression invents mask values"):
        inspect_mask(tmp_path / "a.tif")


def transparent(path: Path, kind: str, colour: int, alpha: int) -> Path:
    """One pixel of that colour has that alpha; all others are of other colours, and opaque."""
    gray = RANDOM.integers(10, 250, (5, 7)).astype("u1")
    gray[2, 3] = colour
    opaque = np.full((5, 7), 255, "u1")
    opaque[2, 3] = alpha
    if kind == "LA":
        return png(path, np.dstack([gray, opaque]))
    if kind == "RGBA":
        return png(path, np.dstack([gray, gray, gray, opaque]))
    if kind == "tRNS gray":
        mark = struct.pack(">H", colour if alpha < 255 else 1)
        return png(path, gray, before=chunk(b"tRNS", mark))
    if kind == "tRNS 16":
        deep = gray.astype(int) * 257
        mark = struct.pack(">H", colour * 257 if alpha < 255 else 1)
        return png(path, deep, bits=16, before=chunk(b"tRNS", mark))
    palette = np.repeat(np.arange(256)[:, None], 3, 1)
    alphas = np.full(256, 255, "u1")
    alphas[colour] = alpha
    return png(path, gray, palette=palette, before=chunk(b"tRNS", alphas.tobytes()))


@pytest.mark.parametrize("kind", ["LA", "RGBA", "tRNS gray", "tRNS 16", "palette"])
def test_transparency_is_refused_where_it_hides_a_colour(kind: str, tmp_path: Path) -> None:
    opaque = transparent(tmp_path / "a.png", kind, 255, 255)
    read_image(opaque)
    read_mask(opaque)
    hidden = transparent(tmp_path / "b.png", kind, 255, 0)
    for read in (read_image, read_mask):
        with pytest.raises(BadFileError, match=r"b\.png is transparent in 1 pixels"):
            read(hidden)
    black = transparent(tmp_path / "c.png", kind, 0, 0)
    assert read_mask(black)[2, 3] == 0
    with pytest.raises(BadFileError, match="is transparent"):
        read_image(black)


def test_indices_of_one_colour_and_beyond_the_palette_are_refused(tmp_path: Path) -> None:
    twins = np.array([[0, 0, 0], [255, 0, 0], [255, 0, 0]])
    values = np.arange(35).reshape(5, 7) % 3
    with pytest.raises(BadFileError, match="palette in which 1 and 2 are of one colour"):
        read_mask(png(tmp_path / "a.png", values, palette=twins))


def test_a_jpeg_ends_where_it_ends_whatever_follows(tmp_path: Path) -> None:
    picture = Image.fromarray(rgb(32, 32))
    file = BytesIO()
    picture.save(file, "JPEG")
    (tmp_path / "a.jpg").write_bytes(file.getvalue() + bytes(1 << 18))
    inspect_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(seen(tmp_path / "a.jpg").round(), np.asarray(Image.open(file)))


def test_memory_that_pixels_need_is_looked_for_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segbench.data import raster_file

    path = png(tmp_path / "a.png", rgb(5, 7))
    monkeypatch.setattr(raster_file, "free_bytes", lambda: 24 * 35 - 1)
    reads: list[Any] = [inspect_image, read_image, read_mask]
    for read in reads:
        with pytest.raises(BadFileError, match=r"a\.png has 7 x 5 pixels, 840 bytes once"):
            read(path)
