"""One picture, or volume, as a file of every ending, whoever can write it."""

from __future__ import annotations

import gzip
import struct
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

Picture = np.ndarray  # (H, W) or (H, W, 3) of uint8
AFFINE = np.diag([-0.5, -0.75, 2.0, 1.0])  # to ITK's left, back and head


def by_pillow(suffix: str, values: Picture, **options: Any) -> bytes:
    file = BytesIO()
    Image.init()
    picture = Image.fromarray(values)
    if suffix in (*ONE_BIT, ".blp"):
        picture = picture.convert("P" if suffix == ".blp" else "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the format, not of its reading
        picture.save(file, Image.registered_extensions()[suffix], **options)
    return file.getvalue()


def sun(values: Picture) -> bytes:
    """Sun raster, standard: rows of whole 16 bits."""
    height, width = values.shape
    rows = np.zeros((height, width + width % 2), "u1")
    rows[:, :width] = values
    head = struct.pack(">8I", 0x59A66A95, width, height, 8, rows.size, 1, 0, 0)
    return head + rows.tobytes()


def psd(values: Picture) -> bytes:
    """Photoshop, one channel, without layers, uncompressed."""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 1, *values.shape, 8, 1)
    return head + bytes(12) + struct.pack(">H", 0) + values.tobytes()


def gbr(values: Picture) -> bytes:
    """A GIMP brush, version 2, gray."""
    name = b"a brush\0"
    height, width = values.shape
    head = struct.pack(">5I", 28 + len(name), 2, width, height, 1)
    return head + b"GIMP" + struct.pack(">I", 10) + name + values.tobytes()


def dcx(values: Picture) -> bytes:
    """One PCX, with a table of one place before it."""
    return struct.pack("<3I", 987654321, 12, 0) + by_pillow(".pcx", values)


def pixar(values: Picture) -> bytes:
    head = bytearray(1024)
    head[:4] = b"\200\350\0\0"
    head[416:420] = struct.pack("<HH", *values.shape[:2])
    head[424:428] = struct.pack("<HH", 14, 2)
    return bytes(head) + values.tobytes()


def xpm(values: Picture) -> bytes:
    """Gray values, each with a name of two letters."""
    levels = np.unique(values).tolist()
    name = {level: f"{n // 26 + 97:c}{n % 26 + 97:c}" for n, level in enumerate(levels)}
    height, width = values.shape
    lines = [f'"{width} {height} {len(levels)} 2",']
    lines += [f'"{name[level]} c #{level:02x}{level:02x}{level:02x}",' for level in levels]
    lines += [f'"{"".join(name[v] for v in row)}",' for row in values.tolist()]
    return ("/* XPM */\nstatic char *a[] = {\n" + "\n".join(lines) + "\n};\n").encode()


def fli(values: Picture) -> bytes:
    """One frame: a palette of gray, and the pixels as they are (chunks 4 and 16)."""
    height, width = values.shape
    gray = np.repeat(np.arange(256, dtype="u1"), 3).tobytes()
    colours = struct.pack("<HBB", 1, 0, 0) + gray
    chunks = [(4, colours), (16, values.tobytes())]
    body = b"".join(struct.pack("<IH", 6 + len(data), kind) + data for kind, data in chunks)
    frame = struct.pack("<IHH8x", 16 + len(body), 0xF1FA, len(chunks)) + body
    head = struct.pack("<IHHHHHHI", 128 + len(frame), 0xAF12, 1, width, height, 8, 3, 70)
    return head.ljust(128, b"\0") + frame


def ftex(values: Picture) -> bytes:
    """Uncompressed, of Independence War 2."""
    height, width = values.shape[:2]
    head = struct.pack("<4sI4i", b"FTEX", 1, width, height, 1, 1)
    return head + struct.pack("<3i", 1, 32, values.nbytes) + values.tobytes()


ONE_BIT = (".pbm", ".msp", ".xbm")
GRAY_BY_HAND: Mapping[str, Callable[[Picture], bytes]] = {
    ".ras": sun, ".psd": psd, ".gbr": gbr, ".dcx": dcx, ".xpm": xpm, ".fli": fli, ".flc": fli,
}  # fmt: skip
COLOUR_BY_HAND: Mapping[str, Callable[[Picture], bytes]] = {
    ".pxr": pixar, ".ftc": ftex, ".ftu": ftex,
}  # fmt: skip
COLOUR = (".webp", ".qoi", ".avif", ".avifs", ".ppm", ".blp", *COLOUR_BY_HAND)
"""Kinds that are always in colour."""
LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".avif", ".avifs")


def picture_bytes(suffix: str, values: Picture) -> bytes:
    """The content of a whole file; gray values (H, W), where its kind holds gray."""
    if suffix in COLOUR and suffix != ".blp":  # whose palette is of colours
        values = np.repeat(values[..., None], 3, -1) if values.ndim == 2 else values
    if write := (GRAY_BY_HAND | COLOUR_BY_HAND).get(suffix):
        return write(values)
    if suffix == ".pfm":
        return by_pillow(suffix, values.astype("f4"))
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    return by_pillow(suffix, values, **options)


def volume_files(suffix: str, voxels: np.ndarray) -> dict[str, bytes]:
    """Ending -> content of the files that hold a volume (X, Y, Z), the first being its own."""
    import nibabel

    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        if suffix in (".mgh", ".mgz", ".mgh.gz"):
            whole: bytes = nibabel.MGHImage(voxels, AFFINE).to_bytes()
            path.write_bytes(whole if suffix == ".mgh" else gzip.compress(whole))
        elif suffix in (".nii", ".nii.gz"):
            nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)
        elif suffix in (".img", ".img.gz"):
            nibabel.save(nibabel.Nifti1Pair(voxels, AFFINE), path)
        else:
            import SimpleITK

            image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
            image.SetSpacing((0.5, 0.75, 2.0))
            packed = suffix in (".nrrd", ".mha")
            SimpleITK.WriteImage(image, str(path), packed)
            if suffix == ".spr":  # which names where its voxels lay
                path.write_text(path.read_text().replace(f"{folder}/", ""))
        files = sorted(Path(folder).iterdir(), key=lambda file: (file != path, file.name))
        return {file.name[1:]: file.read_bytes() for file in files}


KINDS = {".spr": "i2", ".lsm": "u2", ".mrc": "i2", ".rec": "i2"}
"""What their writers know, or readers agree on; others write 8 bits."""


def write_volume(path: Path, voxels: np.ndarray) -> None:
    """All files of a volume (X, Y, Z), in the kind of number that its ending knows."""
    stem, dot, rest = path.name.partition(".")
    suffix = dot + rest
    path.parent.mkdir(parents=True, exist_ok=True)
    for ending, content in volume_files(suffix, voxels.astype(KINDS.get(suffix, "u1"))).items():
        for named in (b"a.raw", b"a.sdt"):
            content = content.replace(named, stem.encode() + named[1:])
        (path.parent / f"{stem}{ending}").write_bytes(content)
