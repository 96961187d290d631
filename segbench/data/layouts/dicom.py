"""A tree of DICOM files: CT and MR series as volumes, radiographs as pictures.

Labels are DICOM segmentations (SEG) or contours (RTSTRUCT) anywhere in the tree, or mask files
beside, in ``labels/``, called as the series' folder, its patient or its SeriesInstanceUID.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segbench.data.coding import Coding, count_values
from segbench.data.dicom_cases import DicomCases
from segbench.data.dicom_labels import labels_by_series
from segbench.data.dicom_series import (
    LABELS,
    RADIOGRAPHS,
    VOLUMES,
    sort_series,
)
from segbench.data.dicom_source import RadiographSource, SeriesSource
from segbench.data.dicom_tree import read_headers
from segbench.data.faults import BadFileError, Faults
from segbench.data.layouts.volumes import VolumeLayout
from segbench.data.mask_coding import (
    explained_coding,
    infer_coding,
    refuse_values,
    structure_coding,
)
from segbench.data.regrid import ScoreOn
from segbench.data.resize import check_size
from segbench.data.sources import Source
from segbench.data.splits import group_rule
from segbench.data.survey import MaskValues, Survey, survey_masks
from segbench.data.values import ValueMap, read_values
from segbench.data.volume_source import Mode
from segbench.errors import UserError

Kind = Literal["", "CT", "MR", "PT", "NM", "CR", "DX", "MG", "RG", "PX"]


@dataclass(frozen=True)
class Dicom(VolumeLayout):
    """Every series, or radiograph, under a folder, with its patient as group.

    Attributes:
        root: the folder; mask files lie in its ``labels/``.
        modality: which images; "" where there is but one kind.
        mode: whole volumes, or their axial slices.
        window: values that become 0 and 1, ``-1000..400``; CT must have it, "" is percentiles of
            each volume for others, and all that the file can hold for radiographs.
        lower: percentile of a volume's voxels that becomes 0.
        upper: percentile that becomes 1.
        size: side that every case is resized to; 0 keeps its own grid.
        split: a CSV file in the folder (case_id, split, optionally group); "" for a seeded rule.
        test_fraction: share of cases that the seeded rule puts in test.
        split_seed: another seed, another split.
        classes: class names, background first; () takes those of the segmentations.
        values: mask values of the classes in order, or a TOML or CSV file; of mask files.
        regions: structures that overlap, of mask values; of mask files.
        ignore: mask value that is neither trained on nor scored; of mask files. The image is
            changed there as elsewhere.
        nsd_tolerance: that of the surface Dice, in mm, or pixels where the spacing is unknown;
            none is the larger of 1 mm and one pixel.
        spacing: millimetres that volumes are resampled to, ``1x1x1``; "" for their own.
        score_on: resampled, or original, where networks alone are shown the resampled image.
    """

    name = "dicom"

    modality: Kind = ""
    mode: Mode = "volumes"
    window: str = ""
    lower: float = 0.5
    upper: float = 99.5
    size: int = 0
    split: str = ""
    test_fraction: float = 0.3
    split_seed: int = 0
    classes: tuple[str, ...] = ()
    values: str = ""
    regions: str = ""
    ignore: int | None = None
    nsd_tolerance: float | None = None
    spacing: str = ""
    score_on: ScoreOn = "resampled"
    root: Path | None = None

    @property
    def resize_rule(self) -> str:
        """One sentence."""
        return f"{self._window.rule}; every case is {self.regrid.rule} and scored there"

    def find(self) -> Mapping[str, Sequence[Source]]:
        """The labelled cases."""
        check_size(self.size)
        sources = self._cases
        self._faults.raise_any()
        if not sources:
            raise UserError(
                f"{self._folder}: no series has labels (a SEG or RTSTRUCT that refers to it, or a "
                "file of its name in labels/)"
            )
        pairs = {source.pair_id: source.pair for source in sources}
        group_of = group_rule("", self._split_table)
        return self._divided(sources, list(pairs.values()), group_of)

    def read_coding(self) -> Coding:
        """What the segmentations are called, or the values of all mask files suggest."""
        survey = self._survey()
        ignored = () if self.ignore is None else (self.ignore,)
        try:
            if self._structures:
                said = "" if self.ignore is None else f"ignore={self.ignore}"
                refuse_values(self.values, self.regions, said)
                return structure_coding(survey, self._structures, self.classes)
            given: ValueMap | None = read_values(
                self.values, self.regions, self.classes, ignored, self._folder
            )
            if given:
                return explained_coding(survey, given)
            return infer_coding(survey, self.classes, ignored)
        except UserError as error:
            raise UserError(f"{self._folder}: {error}") from None

    def _survey(self) -> Survey:
        found, seen = [], set()
        faults = Faults(self._folder)
        for source in self._cases:
            if source.pair_id in seen:
                continue
            seen.add(source.pair_id)
            whole = replace(source, depth=None) if isinstance(source, SeriesSource) else source
            try:
                mask: NDArray[np.integer] = _own_grid(whole).raw_mask()
            except BadFileError as error:
                faults.catch(error)
                continue
            found.append(MaskValues(source.mask, count_values(mask)))
        faults.raise_any()
        return survey_masks(found)

    @cached_property
    def _cases(self) -> list[SeriesSource | RadiographSource]:
        headers = list(read_headers(self._folder, self._faults))
        by_kind: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
        for path, header in headers:
            by_kind[str(header.Modality)].append((path, header))
        kind = self._chosen(by_kind)
        labels = labels_by_series([f for name in LABELS for f in by_kind[name]], self._faults)
        for other in sorted(by_kind.keys() - {kind, *LABELS}):
            self._faults.note(f"{len(by_kind[other])} files of {other} are left out")
        cases = DicomCases(
            self._folder, self._faults, self.mode, self._window, self.regrid, self.size
        )
        if kind in RADIOGRAPHS:
            return list(cases.radiographs(by_kind[kind]))
        if kind == "CT" and not self.window:
            raise UserError(
                f"{self._folder}: CT needs the Hounsfield units that become 0 and 1, for example "
                "window=-1000..400"
            )
        return cases.volumes(sort_series(by_kind[kind], self._faults), labels)

    def _chosen(self, by_kind: Mapping[str, Sequence[Any]]) -> str:
        there = [kind for kind in by_kind if kind in (*VOLUMES, *RADIOGRAPHS)]
        if self.modality:
            there = [kind for kind in there if kind == self.modality]
        if len(there) != 1:
            found = ", ".join(f"{len(files)} files of {kind or 'no modality'}"
                              for kind, files in sorted(by_kind.items()))  # fmt: skip
            raise UserError(
                f"{self._folder} holds {found or 'no DICOM'}; "
                + ("say which (modality=)" if there else f"expected {', '.join(VOLUMES)} or X-rays")
            )
        return there[0]

    @property
    def _holds_volumes(self) -> bool:
        return isinstance(self._cases[0], SeriesSource)

    @property
    def _structures(self) -> tuple[str, ...]:
        first = self._cases[0]
        return first.structures if isinstance(first, SeriesSource) else ()


def _own_grid(source: SeriesSource | RadiographSource) -> SeriesSource | RadiographSource:
    """The same at the size of its files."""
    if isinstance(source, SeriesSource):
        return replace(source, shape=(1, *source.header.shape))
    return source
