"""What a network made of a case as DICOM segmentations (SEG), by highdicom (an extra).

One is about the source series. The other refers to the derived series of the attacked images and
is of them as they were attacked and scored, in float32: the derived files are rounded to whole
numbers, of which the network may make something else. They bear the name of a prediction, by which
the reader of series knows that they are no labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench import __version__
from segbench.api import Case
from segbench.atomic import write_atomically
from segbench.data.dicom_frames import Slice, import_pydicom
from segbench.data.dicom_labels import PREDICTION, import_highdicom
from segbench.errors import UserError
from segbench.export.dicom_files import dicom_bytes, stored_planes, written_file

_MAY_BE_EMPTY = (  # and must be there; in files made anonymous they often are not
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime"),
)
CLEAN, ADVERSARIAL = "prediction-clean.dcm", "prediction-adversarial-unrounded.dcm"
_DESCRIPTIONS = {  # 64 characters at most
    CLEAN: "prediction by a network, no ground truth",
    ADVERSARIAL: "prediction of the attacked image before rounding, no truth",
}


def write_predictions(
    folder: Path,
    clean: NDArray[np.integer],
    adversarial: NDArray[np.integer],
    case: Case,
    source: Path,
    model: str,
) -> None:
    """Write both beside a derived series: labels (*spatial), or 0 and 1 of each (S, *spatial).

    Raises:
        UserError: highdicom is not there, or cannot describe the series; the case was resized.
        MachineError: the disk refused.
    """
    derived: dict[Path, Path] = {}
    for name, labels in ((CLEAN, clean), (ADVERSARIAL, adversarial)):
        masks = _masks(labels, case)
        planes = [stored_planes(mask, case, source) for mask in masks]
        slices = [one for one, _ in planes[0]]
        stacked = np.stack([[plane for _, plane in own] for own in planes], -1)
        if name == ADVERSARIAL:
            derived = {one.path: written_file(folder, one.path) for one in slices}
        try:
            made = _segmentation(
                slices, stacked, case.class_names[1:], derived, model, _DESCRIPTIONS[name]
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"what {model} makes of case {case.case_id} cannot be written as a segmentation of "
                f"its series ({reason})"
            ) from None
        write_atomically(folder / name, dicom_bytes(made))


def _masks(labels: NDArray[np.integer], case: Case) -> list[NDArray[np.bool_]]:
    """One (*spatial) of each class but the background."""
    if labels.ndim == case.image.ndim:
        return [part != 0 for part in labels]
    return [labels == number for number in range(1, len(case.class_names))]


def _segmentation(
    slices: Sequence[Slice],
    masks: NDArray[np.bool_],
    names: Sequence[str],
    derived: dict[Path, Path],
    model: str,
    description: str,
) -> Any:
    """A SEG of (slices, rows, columns, segments) about the files, or those derived of them."""
    highdicom, uid = import_highdicom(), import_pydicom().uid.generate_uid
    sources, pixels = _sources(slices, masks, derived)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values of the source that are not as they should be
        return highdicom.seg.Segmentation(
            sources,
            pixels.astype(np.uint8),
            highdicom.seg.SegmentationTypeValues.BINARY,
            _described(names, model),
            series_instance_uid=uid(),
            series_number=1,
            sop_instance_uid=uid(),
            instance_number=1,
            manufacturer="segbench",
            manufacturer_model_name=PREDICTION,
            software_versions=__version__,
            device_serial_number="0",
            series_description=description,
        )


def _sources(
    slices: Sequence[Slice], masks: NDArray[np.bool_], derived: dict[Path, Path]
) -> tuple[list[Any], NDArray[np.bool_]]:
    """The files' headers, and the masks in their order: of all frames, where one holds several."""
    pydicom = import_pydicom()
    sources, pixels = [], []
    numbered = enumerate(slices)
    for path, some in groupby(numbered, lambda pair: pair[1].path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(derived.get(path, path), stop_before_pixels=True)
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, "")
        sources.append(header)
        own = np.zeros((int(header.get("NumberOfFrames", 1) or 1), *masks.shape[1:]), bool)
        for n, one in some:
            own[one.frame or 0] = masks[n]
        pixels.append(own)
    return sources, np.concatenate(pixels)


def _described(names: Sequence[str], model: str) -> list[Any]:
    highdicom = import_highdicom()
    code = highdicom.sr.coding.CodedConcept
    tissue = code("85756007", "SCT", "Tissue")
    learnt = highdicom.AlgorithmIdentificationSequence(
        model[:64], code("123109", "DCM", "Artificial Intelligence"), "1"
    )
    return [
        highdicom.seg.SegmentDescription(
            number,
            name[:64],
            tissue,
            tissue,
            highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            learnt,
        )
        for number, name in enumerate(names, start=1)
    ]
