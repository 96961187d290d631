"""Damaged files of every format: exit 2, one sentence, the file's name, before any score."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from written import AFFINE, LOSSY, ONE_BIT, picture_bytes, write_volume

from segbench.data.endings import PICTURES, SIMPLEITK_SUFFIXES, suffix_of
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

NET = """
import torch

def build(in_channels, num_classes, spatial_dims):
    kind = torch.nn.Conv2d if spatial_dims == 2 else torch.nn.Conv3d
    return kind(in_channels, num_classes, 1)
"""
RANDOM = np.random.default_rng(0)
RASTERS = (*(endings[0] for endings in PICTURES.values()), ".pgm")
VOLUMES = (
    *(".nii", ".nii.gz", ".img", ".mgh", ".mgz", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl"),
    *(".vtk", ".mrc", ".mnc", ".h5", ".spr", ".lsm"),
)


def write(path: Path, values: np.ndarray) -> None:
    """A file of that kind, whole; of volumes four planes."""
    if suffix_of(path) in RASTERS:
        path.write_bytes(picture_bytes(path.suffix, values))
        return
    if suffix_of(path) in SIMPLEITK_SUFFIXES:
        pytest.importorskip("SimpleITK")
    write_volume(path, np.stack([values] * 4, -1))


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda whole: whole[: int(len(whole) * share)]


def png_with(tag: bytes, body: bytes) -> Callable[[bytes], bytes]:
    """A PNG whose chunk says something else, with the right checksum."""

    def change(whole: bytes) -> bytes:
        at = whole.index(tag)
        end = at + 4 + struct.unpack(">I", whole[at - 4 : at])[0]
        new = tag + body + whole[at + 4 + len(body) : end]
        return whole[:at] + new + struct.pack(">I", zlib.crc32(new)) + whole[end + 4 :]

    return change


def flip(at: int, bits: int = 0xFF) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :]


ANY: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "text": lambda whole: b"the file is too large to be displayed\n",
    "a web page": lambda whole: b"<!DOCTYPE html><html><body>404</body></html>",
    "zeros": lambda whole: bytes(len(whole)),
    "noise": lambda whole: np.random.default_rng(1).bytes(len(whole)),
    "git lfs": lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "its head": cut(0.02),
    "a tenth": cut(0.1),
    "a third": cut(0.33),
    "a half": cut(0.5),
    "nine tenths": cut(0.9),
    "turned about": lambda whole: whole[::-1],
    "its first byte": flip(0),
    "without its head": lambda whole: whole[16:],
    "as text": lambda whole: whole.replace(b"\n", b"\r\n").replace(b"\x00", b""),
}
OWN: dict[str, dict[str, Callable[[bytes], bytes]]] = {
    ".png": {
        "a bit of its pixels": lambda whole: flip(whole.index(b"IDAT") + 9, 1)(whole),
        "no pixels": lambda whole: whole[: whole.index(b"IDAT") - 4] + whole[-12:],
        "a width of 0": png_with(b"IHDR", struct.pack(">I", 0)),
        "a width of a million": png_with(b"IHDR", struct.pack(">I", 1_000_000)),
        "another width": png_with(b"IHDR", struct.pack(">I", 9)),
        "a kind there is not": png_with(b"IHDR", struct.pack(">IIBB", 24, 20, 8, 7)),
    },
    ".jpg": {
        "its end alone": lambda whole: whole[: len(whole) // 2] + b"\xff\xd9",
        "without tables": lambda whole: whole.replace(b"\xff\xdb", b"\xff\xfe"),
    },
    ".tif": {"pixels beyond its end": lambda whole: whole[:300]},
    ".gif": {"no palette": lambda whole: flip(10, 0x80)(whole)[:40]},
    ".bmp": {"a header of no size": lambda whole: whole[:14] + bytes(4) + whole[18:]},
    ".nii": {
        "no axes": lambda whole: whole[:40] + bytes(2) + whole[42:],
        "nine axes": lambda whole: whole[:40] + struct.pack("<h", 9) + whole[42:],
        "a length below 0": lambda whole: whole[:42] + struct.pack("<h", -5) + whole[44:],
        "other lengths": lambda whole: whole[:42] + struct.pack("<h", 900) + whole[44:],
        "complex numbers": lambda whole: whole[:70] + struct.pack("<hh", 32, 64) + whole[74:],
        "a kind there is not": lambda whole: whole[:70] + struct.pack("<hh", 77, 8) + whole[74:],
        "no orientation": lambda whole: (
            whole[:252] + struct.pack("<hh", 0, 1) + bytes(72) + whole[328:]
        ),
    },
    ".nii.gz": {
        "a bit": lambda whole: flip(len(whole) // 2, 1)(whole),
        "another checksum": flip(-8),
        "not compressed": lambda whole: b"x" * 400,
    },
    ".nrrd": {
        "a bit of its voxels": lambda whole: flip(-200, 1)(whole),
        "a bit near its end": lambda whole: flip(-30, 1)(whole),
        "no sizes": lambda whole: whole.replace(b"sizes:", b"sizzz:"),
        "a size of 0": lambda whole: whole.replace(b"sizes: 20", b"sizes: 0"),
        "a kind there is not": lambda whole: whole.replace(b"type: ", b"type: quaternion "),
    },
    ".pgm": {
        "a number above its white": lambda whole: whole.replace(b"\n255\n", b"\n9\n"),
        "bytes behind it": lambda whole: whole + b"x",
        "no white": lambda whole: whole.replace(b"\n255\n", b"\n0\n"),
    },
    ".jp2": {
        "a box too long": lambda whole: whole.replace(b"jp2c", b"jp2d"),
        "no end": lambda whole: whole[:-2],
        "two widths": lambda whole: whole.replace(
            b"ihdr" + struct.pack(">2I", 20, 24), b"ihdr" + struct.pack(">2I", 20, 25)
        ),
    },
    ".webp": {"a length beyond its end": lambda whole: whole[:4] + b"\xff\xff\0\0" + whole[8:]},
    ".pcx": {"no palette": lambda whole: whole[:-300]},
    ".mrc": {
        "a kind there is not": lambda whole: whole[:12] + struct.pack("<i", 77) + whole[16:],
        "a length below 0": lambda whole: struct.pack("<i", -4) + whole[4:],
        "other lengths": lambda whole: struct.pack("<i", 900) + whole[4:],
        "a longer head": lambda whole: whole[:92] + struct.pack("<i", 80) + whole[96:],
    },
    ".vtk": {
        "other lengths": lambda whole: whole.replace(b"DIMENSIONS 20", b"DIMENSIONS 21"),
        "a grid of another kind": lambda whole: whole.replace(b"_POINTS", b"_GRIDSS"),
        "no voxels": lambda whole: whole[: whole.index(b"LOOKUP_TABLE")],
    },
    ".h5": {"another image": lambda whole: whole.replace(b"ITKImage", b"ITKimage")},
    ".lsm": {"a plane less": lambda whole: whole[:-200]},
    ".spr": {"32 bits": lambda whole: whole.replace(b"WORD", b"LWORD")},
    ".mha": {
        "a bit of its voxels": lambda whole: flip(-200, 1)(whole),
        "a bit near its end": lambda whole: flip(-30, 1)(whole),
        "no size": lambda whole: whole.replace(b"DimSize", b"DimZise"),
        "a kind there is not": lambda whole: whole.replace(b"MET_UCHAR", b"MET_WHAT_"),
    },
}
HARMLESS = {
    *((suffix, "as text") for suffix in (".xbm", ".xpm", ".nhdr", ".mhd")),  # they are text
    *((suffix, "its first byte") for suffix in (".nii", ".mha", ".mhd", ".vtk", ".fli")),
    *((".img", kind) for kind in ("its first byte", "zeros", "noise", "turned about", "as text")),
    (".vtk", "without its head"),
    (".spr", "nine tenths"),
}
"""Damage that says nothing of pixels; and bare voxels, of which any are some."""
EVERY = [
    (suffix, where, kind)
    for suffix in (*RASTERS, *VOLUMES)
    for where in ("images", "masks")
    for kind in (*ANY, *OWN.get(suffix, {}))
    if not (suffix in LOSSY and where == "masks") and (suffix, kind) not in HARMLESS
]


def test_there_are_so_many() -> None:
    assert len(EVERY) >= 1000


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    return tmp_path / "data"


def fill(room: Path, suffix: str) -> None:
    for name in ("images", "masks"):
        (room / name).mkdir(parents=True)
        for n in range(3):
            values = RANDOM.integers(0, 256, (20, 24), dtype=np.uint8)
            if name == "masks" or suffix in ONE_BIT:
                values = (values > 127).astype(np.uint8) * 255
            own = ".png" if suffix in LOSSY and name == "masks" else suffix
            write(room / name / f"c{n}{own}", values)


def check(room: Path, segbench, suffix: str, where: str, kind: str) -> None:
    fill(room, suffix)
    path = room / where / f"c1{suffix}"
    path.write_bytes((ANY | OWN.get(suffix, {}))[kind](path.read_bytes()))
    spec = "folder:mode=volumes" if suffix in VOLUMES else "folder"
    done = segbench("attack", "-m", "net.py:build", "-a", "noise", "--eps", "1/255", "--dataset",
                    spec, "--data-root", room)  # fmt: skip
    assert done.exit_code == 2, (done.output, done.exception)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(lines) == 1, done.stderr
    assert path.name in lines[0]
    assert "Traceback" not in done.output
    assert read_rows(Workspace(Path("runs"))).empty


@pytest.mark.parametrize(("suffix", "where", "kind"), EVERY[::43], ids=str)
def test_some_of_them(room: Path, segbench, suffix: str, where: str, kind: str) -> None:
    check(room, segbench, suffix, where, kind)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "where", "kind"), EVERY, ids=str)
def test_all_of_them(room: Path, segbench, suffix: str, where: str, kind: str) -> None:
    check(room, segbench, suffix, where, kind)


@pytest.mark.parametrize("where", ["images", "masks"])
def test_what_is_no_file_is_not_waited_for(room: Path, segbench, where: str) -> None:
    fill(room, ".png")
    (room / where / "c1.png").unlink()
    os.mkfifo(room / where / "c1.png")
    done = segbench("attack", "-m", "net.py:build", "-a", "noise", "--eps", "1/255", "--dataset",
                    "folder", "--data-root", room)  # fmt: skip
    assert done.exit_code == 2
    assert "c1.png cannot be read (it is a named pipe" in " ".join(done.stderr.split())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_found_in_all_files_at_once(
    room: Path, segbench, value: float
) -> None:
    import nibabel

    fill(room, ".nii.gz")
    for n in (0, 2):
        voxels = RANDOM.random((20, 24, 4)).astype(np.float32)
        voxels[3, 4, 1] = value
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), room / f"images/c{n}.nii.gz")
    done = segbench("attack", "-m", "net.py:build", "-a", "noise", "--eps", "1/255", "--dataset",
                    "folder:mode=volumes", "--data-root", room)  # fmt: skip
    assert done.exit_code == 2
    for n in (0, 2):
        assert f"images/c{n}.nii.gz holds voxels that are NaN or infinite" in done.stderr
    assert read_rows(Workspace(Path("runs"))).empty
