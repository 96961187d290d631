"""The truth that moved with an image, as a file that its data set's own options read back.

Labels become the mask values that they were, by the data set's coding, and what is ignored its
ignored value, or where it has none a free one. A region of interest in files of its own has not
moved with the image: what lies outside it is ignored in the truth instead. Where every structure
has a mask of its own, or a plug-in reads the data, the one file here holds the labels. Which
options read a file is said with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.api import Case, Dataset
from segbench.atomic import write_atomically
from segbench.data.coding import COLOUR, Coding, name_value
from segbench.data.dicom_tree import is_dicom
from segbench.data.file_dataset import FileDataset
from segbench.data.raster_file import opened
from segbench.data.rasters import read_mask_and_palette
from segbench.export.image_files import as_stored, nifti_bytes
from segbench.export.own_values import of_volume
from segbench.plugins.spec import Spec


@dataclass(frozen=True)
class Truth:
    """A written label map.

    Attributes:
        ignored: the mask value of what is ignored there; "" where nothing is.
        read_with: the options that read it, in words.
    """

    path: Path
    ignored: str
    read_with: str


@dataclass(frozen=True)
class _Palette:
    """The colours of a mask's palette, red, green and blue of each, and the index of each value."""

    colours: list[int]
    indices: Mapping[int, int]


@dataclass(frozen=True)
class _Numbering:
    """The mask value of each label and of what is ignored.

    Attributes:
        options: that read such masks, in words.
        ignoring: likewise, where there is something that is ignored.
    """

    of_label: Mapping[int, int]
    ignored: int
    options: str
    ignoring: str
    palette: _Palette = field(default_factory=lambda: _Palette([], {}))


def write_truth(
    folder: Path, labels: NDArray[np.integer], case: Case, dataset: Dataset
) -> Truth | None:
    """Write labels (*spatial), shaped and numbered as the case's own: a picture, or NIfTI.

    None of a DICOM series, whose labels are no file of one map, and of a generated volume.

    Raises:
        BadFileError: a mask of the case cannot be read.
        MachineError: the disk refused.
    """
    if case.source is not None and is_dicom(case.source):
        return None
    numbering = _numbering(case, dataset)
    values = np.full(labels.shape, numbering.ignored, np.int64)
    known = np.zeros(labels.shape, bool)
    for label, value in numbering.of_label.items():
        here = labels == label
        values[here], known[here] = value, True
    if case.source is not None and of_volume(case):
        stored, affine = as_stored(values[None].astype(_least_type(values)), case, case.source)
        path = folder / f"{case.case_id}.nii.gz"
        content = nifti_bytes(stored, affine, None, compressed=True)
    elif labels.ndim == 2:
        wide = values.min() < 0 or COLOUR > values.max() >= 2**16
        path = folder / f"{case.case_id}{'.tiff' if wide else '.png'}"
        content = _picture_bytes(values, numbering.palette, "TIFF" if wide else "PNG")
    else:
        return None  # there is no volume to lie on
    write_atomically(path, content)
    if known.all():
        return Truth(path, "", numbering.options)
    return Truth(path, _name(numbering.ignored, numbering.palette), numbering.ignoring)


def _numbering(case: Case, dataset: Dataset) -> _Numbering:
    if not isinstance(dataset, FileDataset):
        return _numbering_of_labels(case)
    masks = dataset.mask_files(case.case_id)
    if len(masks) != 1:
        return _numbering_of_labels(case)
    coding = dataset.coding
    of_label = {label: value for value, label in reversed(coding.values)}  # its first value
    ignored = coding.ignore[0] if coding.ignore else _free(value for value, _ in coding.values)
    apart = case.valid is not None and not coding.outside
    options = "the data set's own" + (" without rois=" if apart else "")
    palette = _Palette([], {}) if of_volume(case) else _palette(masks[0], coding)
    if palette.colours and not coding.ignore:
        ignored = _free(palette.indices.values())
        palette.colours[3 * ignored : 3 * ignored + 3] = [ignored] * 3
        palette = _Palette(palette.colours, {**palette.indices, ignored: ignored})
    added = "" if coding.ignore else f", with ignore={_name(ignored, palette)}"
    return _Numbering(of_label, ignored, options, options + added, palette)


def _numbering_of_labels(case: Case) -> _Numbering:
    """Labels as they are, and how ``folder`` reads them."""
    if case.regions is None:
        labels = range(len(case.class_names))
        params = {"values": "+".join(map(str, labels))}
        if not any("+" in name for name in case.class_names):
            params["classes"] = "+".join(case.class_names)
    else:
        labels = range(1 + max(label for of in case.regions for label in of))
        areas = zip(case.class_names[1:], case.regions, strict=True)
        said = [f"{name}={{{','.join(map(str, of))}}}" for name, of in areas]
        params = {"regions": "; ".join(said)}
    ignored = _free(labels)
    ignoring = params | {"ignore": str(ignored)}
    without, named = Spec("folder", params), Spec("folder", ignoring)
    return _Numbering({label: label for label in labels}, ignored, str(without), str(named))


def _name(value: int, palette: _Palette) -> str:
    """As options name it: by its palette's index where it has one."""
    index = palette.indices.get(value)
    return name_value(value) if index is None else str(index)


def _free(taken: Iterable[int]) -> int:
    """A value that stands for nothing else: 255, or the greatest below it."""
    known = set(taken)
    return next(value for value in range(255, 0, -1) if value not in known)


def _palette(mask: Path, coding: Coding) -> _Palette:
    """Of a mask whose colours are a palette's, 256 of them; empty of others."""
    _, used = read_mask_and_palette(mask)
    if not any(value >= COLOUR for value in used):
        return _Palette([], {})
    with opened(mask) as picture:
        colours = (picture.getpalette("RGB") or []) + [0] * 768
    wanted = {value for value, _ in coding.values} | set(coding.ignore)
    indices = dict(used)
    for index in range(255, -1, -1):
        red, green, blue = colours[3 * index : 3 * index + 3]
        value = red if red == green == blue else COLOUR + (red << 16) + (green << 8) + blue
        if value in wanted - used.keys():
            indices[value] = index
    return _Palette(colours[:768], indices)


def _least_type(values: NDArray[np.int64]) -> np.dtype[Any]:
    """The fewest bits that hold them."""
    kinds = (np.dtype(kind) for kind in ("u1", "u2", "i4", "i8"))
    least, largest = values.min(), values.max()
    return next(k for k in kinds if np.iinfo(k).min <= least and largest <= np.iinfo(k).max)


def _picture_bytes(values: NDArray[np.int64], palette: _Palette, kind: str) -> bytes:
    """Gray numbers, indices of a palette, or where there are colours without one, colours."""
    if palette.colours:
        indices = np.zeros(values.shape, np.uint8)
        for value, index in palette.indices.items():
            indices[values == value] = index
        picture = Image.fromarray(indices)
        picture.putpalette(palette.colours)
    elif values.max() >= COLOUR:
        packed = np.where(values >= COLOUR, values - COLOUR, values * 0x010101)
        planes = [packed >> shift & 255 for shift in (16, 8, 0)]
        picture = Image.fromarray(np.stack(planes, -1).astype(np.uint8))
    else:
        picture = Image.fromarray(values.astype(_least_type(values)))
    file = BytesIO()
    picture.save(file, kind)
    return file.getvalue()
