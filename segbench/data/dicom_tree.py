"""The DICOM files of a folder tree, each with its header (by pydicom, an extra)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segbench.data.dicom_frames import bound_deflated, import_pydicom, reading
from segbench.data.faults import BadFileError, Faults

_CALLED_DICOM = (".dcm", ".dicom")
_ALWAYS = ("Modality", "SeriesInstanceUID", "SOPInstanceUID")


def read_headers(root: Path, faults: Faults) -> Iterator[tuple[Path, Any]]:
    """Every DICOM file under ``root`` with its header; other files are counted in a note."""
    import_pydicom()
    others = 0
    for path in sorted(root.rglob("*")):
        if path.is_dir() or path.name.startswith(".") or path.name == "DICOMDIR":
            continue
        if path.suffix.lower() in _CALLED_DICOM and not is_dicom(path):
            faults.add(path, "is called as DICOM is and begins otherwise")
            continue
        if not is_dicom(path):
            others += path.suffix.lower() not in (".md", ".txt", ".csv", ".json", ".gz", ".nii")
            continue
        try:
            yield path, _read_header(path)
        except BadFileError as error:
            faults.catch(error)
    if others:
        faults.note(f"{others} files under {root.name}/ are not DICOM and are left out")


def _read_header(path: Path) -> Any:
    with reading(path, "is DICOM"):
        bound_deflated(path)
        header = import_pydicom().dcmread(path, stop_before_pixels=True)
        list(header)  # of every element: what its value is, is looked at only now
        missing = [tag for tag in _ALWAYS if not header.get(tag)]
    if missing:
        raise BadFileError(path, f"has no {missing[0]}, without which no DICOM file is whole")
    return header


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, whatever it is called."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
