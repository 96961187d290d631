"""Series and radiographs with what is known about them: segmentations, contours, or mask files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from segbench.data.dicom_frames import Slice, check_picture
from segbench.data.dicom_labels import all_structures
from segbench.data.dicom_series import Series
from segbench.data.dicom_source import RadiographSource, SeriesSource, pixel_spacing
from segbench.data.endings import SUFFIXES, suffix_of
from segbench.data.faults import BadFileError, Faults
from segbench.data.pairing import Pair, stem_of
from segbench.data.rasters import inspect_mask
from segbench.data.regrid import Regrid
from segbench.data.volume_source import Mode
from segbench.data.volumes import inspect_volume, same_place
from segbench.data.window import Window
from segbench.errors import UserError


@dataclass(frozen=True)
class DicomCases:
    """How the series of a folder become cases.

    Attributes:
        folder: mask files lie in its ``labels/``.
        faults: what is wrong, or left out, is noted there.
        mode: whole volumes, or their axial slices.
        window: values that become 0 and 1.
        regrid: the grid of volumes.
        size: side of radiographs; 0 keeps their own.
    """

    folder: Path
    faults: Faults
    mode: Mode
    window: Window
    regrid: Regrid
    size: int

    def volumes(
        self, series: Sequence[Series], labels: Mapping[str, Sequence[tuple[Path, Any]]]
    ) -> list[SeriesSource | RadiographSource]:
        """The volumes of labelled series, or their slices.

        Raises:
            UserError: labels both in DICOM and in files.
        """
        found: list[SeriesSource | RadiographSource] = []
        unlabelled = 0
        names = _case_names(series)
        outlined = all_structures(header for files in labels.values() for _, header in files)
        strangers = len(labels.keys() - {one.uid for one in series})
        if strangers:
            self.faults.note(f"{strangers} series that labels are about are not there")
        for one in series:
            masks = tuple(path for path, _ in labels.get(one.uid, ()))
            structures = outlined if masks else ()
            masks = masks or self._beside(one, names[one.uid])
            if not masks:
                unlabelled += 1
                continue
            if not structures and not self._fits(masks[0], one):
                continue
            pair = Pair(names[one.uid], (one.files[0],), masks, group=one.patient)
            axes = 3 if self.mode == "volumes" else 2
            own = one.header.shape[:axes], one.header.spacing[:axes]
            shape = (1, *self.regrid.case_grid(*own))
            volume = SeriesSource(
                pair, one.patient, shape, one.header, self.window, None, one, structures
            )
            slices = range(one.header.shape[2]) if self.mode == "slices" else ()
            found += [replace(volume, depth=z) for z in slices] or [volume]
        if unlabelled:
            self.faults.note(f"{unlabelled} series have no labels and are left out")
        kinds = {bool(source.structures) for source in found if isinstance(source, SeriesSource)}
        if len(kinds) > 1:
            raise UserError(f"{self.folder} has labels both of DICOM and in labels/; keep one")
        return found

    def radiographs(self, files: Sequence[tuple[Path, Any]]) -> Sequence[RadiographSource]:
        """The radiographs that have a mask."""
        found, unlabelled = list[RadiographSource](), 0
        for path, header in files:
            one = Slice(path, header)
            mask = self._masks.get(stem_of(path)) or self._masks.get(path.name)
            if mask is None:
                unlabelled += 1
                continue
            try:
                check_picture(one)
                size = inspect_mask(mask)
            except BadFileError as error:
                self.faults.catch(error)
                continue
            spatial = (int(header.Rows), int(header.Columns))
            if size != spatial:
                self.faults.add(mask, f"is {size[1]} x {size[0]}, its image {spatial[::-1]}")
            group = str(header.get("PatientID", "")) or stem_of(path)
            shape = (1, *((self.size, self.size) if self.size else spatial))
            pair = Pair(stem_of(path), (path,), (mask,), group=group)
            found.append(RadiographSource(pair, group, shape, one, self.window.ends))
        found = self._of_one_unit(found)
        if unlabelled:
            self.faults.note(f"{unlabelled} images have no mask in labels/ and are left out")
        return found

    def _of_one_unit(self, found: list[RadiographSource]) -> list[RadiographSource]:
        """All with their millimetres, or where one does not say its own, all in pixels."""
        silent = sum(pixel_spacing(source.one.header) is None for source in found)
        if silent in (0, len(found)):
            return found
        self.faults.note(
            f"{silent} of {len(found)} images do not say how large their pixels are; distances "
            "(hd95, nsd and its tolerance) of all are in pixels"
        )
        return [replace(source, sized=False) for source in found]

    def _beside(self, series: Series, name: str) -> tuple[Path, ...]:
        keys = (name, series.uid, series.files[0].parent.name, series.patient)
        return tuple(self._masks[key] for key in keys if key in self._masks)[:1]

    def _fits(self, mask: Path, series: Series) -> bool:
        try:
            header = inspect_volume(mask)
        except BadFileError as error:
            self.faults.catch(error)
            return False
        if header.shape != series.header.shape or not same_place(header, series.header):
            self.faults.add(
                mask, f"does not lie where its series in {series.files[0].parent.name}/ lies"
            )
            return False
        return True

    @cached_property
    def _masks(self) -> dict[str, Path]:
        folder = self.folder / "labels"
        if not folder.is_dir():
            return {}
        files = [path for path in sorted(folder.iterdir()) if suffix_of(path) in SUFFIXES]
        return {stem_of(path): path for path in files}


def _case_names(series: Sequence[Series]) -> dict[str, str]:
    """Series -> the shortest of patient, folder and UID that tells it from all others."""
    for name in (
        {one.uid: one.patient for one in series},
        {one.uid: one.files[0].parent.name for one in series},
    ):
        if len(set(name.values())) == len(series):
            return name
    return {one.uid: one.uid for one in series}
