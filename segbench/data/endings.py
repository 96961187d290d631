"""What a file's ending says: a picture, a volume, or a kind that is not read, and why.

Every ending that Pillow or SimpleITK registers stands here once, with what reads it. It says where
to look; what stands in the file decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

TIFF_SUFFIXES = (".tif", ".tiff")
PICTURES: Mapping[str, tuple[str, ...]] = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "TIFF": TIFF_SUFFIXES,
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "AVIF": (".avif", ".avifs"),
    "BLP": (".blp",),
    "DCX": (".dcx",),
    "DDS": (".dds",),
    "DIB": (".dib",),
    "FLI": (".fli", ".flc"),
    "FTEX": (".ftc", ".ftu"),
    "GBR": (".gbr",),
    "IM": (".im",),
    "MSP": (".msp",),
    "PCX": (".pcx",),
    "PIXAR": (".pxr",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
}
"""Pillow's name of a format, and its endings."""
RASTER_SUFFIXES = tuple(ending for endings in PICTURES.values() for ending in endings)
NIFTI_SUFFIXES = (".nii", ".nii.gz", ".img", ".img.gz")  # the latter two beside their .hdr
MGH_SUFFIXES = (".mgh", ".mgz", ".mgh.gz")
HDF5_SUFFIXES = (
    *(".mnc", ".mnc2"),  # MINC 2
    *(".h5", ".hdf5", ".hdf", ".hd5", ".h4", ".hdf4", ".he4", ".he5"),
)
SIMPLEITK_SUFFIXES = (
    *(".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz", ".vtk", ".mrc", ".rec"),
    *(".spr", ".lsm"),
    *HDF5_SUFFIXES,
)
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *MGH_SUFFIXES, *SIMPLEITK_SUFFIXES)
SUFFIXES = (*RASTER_SUFFIXES, *VOLUME_SUFFIXES)
SOME_SUFFIXES = ".png .jpg .tif .bmp … .nii.gz .nrrd .mha … (docs/data.md has all)"
REFUSED: Mapping[str, tuple[str, ...]] = {
    "a drawing has no pixels of its own": (".eps", ".ps", ".wmf", ".emf"),
    "Pillow writes such files and does not read them": (".pdf", ".palm"),
    "a film is no picture": (".mpg", ".mpeg"),
    "an icon is one picture in several sizes": (".ico", ".cur", ".icns"),
    "Pillow leaves out the scale and the sign of FITS's numbers": (".fit", ".fits"),
    "Pillow reads the small picture of a Photo CD only": (".pcd",),
    "Pillow knows such files and reads nothing of them": (".bufr", ".grib", ".fpx", ".mic"),
    "what IPTC wraps says no size that could be checked": (".iim",),
    "--dataset dicom reads DICOM": (".dcm", ".dicom"),
    "a stream of JPEG 2000 (JPIP) is no file of it": (".jpt",),
    "ITK turns the bytes of Bio-Rad's 16 bits about, and has no distances": (".pic",),
    "NIfTI as text is not read; save it as .nii.gz": (".nia",),
}
"""Why, and the endings that are not read."""

_TWO = tuple(suffix for suffix in (*SUFFIXES, ".raw.gz", ".hdr.gz") if suffix.count(".") == 2)
_WHY = {ending: why for why, endings in REFUSED.items() for ending in endings}
_FORMATS = {ending: name for name, endings in PICTURES.items() for ending in endings}


def suffix_of(path: Path) -> str:
    """A file's suffix in lower case, where ``.nii.gz`` is one suffix."""
    name = path.name.lower()
    return next((two for two in _TWO if name.endswith(two)), path.suffix.lower())


def is_volume(path: Path) -> bool:
    """Whether a file is named as a volume."""
    return suffix_of(path) in VOLUME_SUFFIXES


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file is named as; "" where it is named as none."""
    return _FORMATS.get(suffix_of(path), "")


def why_refused(ending: str) -> str:
    """Why files of a known ending are not read; "" where they are, or it is not known."""
    return _WHY.get(ending, "")
