"""A data set made of files: a subclass finds them and knows their coding, this reads them."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segbench.api import Case, Entry
from segbench.atomic import require_regular
from segbench.data.coding import IGNORE_INDEX, NOTHING_VALID, Coding, all_ignored
from segbench.data.faults import BadFileError, short_name
from segbench.data.regrid import OWN_GRID, Regrid
from segbench.data.sources import PairSource, Source
from segbench.errors import UserError
from segbench.plugins.registry import suggest

FORMAT = 1  # part of the fingerprint: raise it when the same files become different arrays
READING = 4  # raise it where only files that were read wrongly do: all cases are looked at again
NOT_FINGERPRINTED = ("root", "split")  # where files lie; who is in which split is hashed itself
LATER = (
    *("nsd_tolerance", "images", "masks", "rois", "table", "values", "regions", "range", "bits"),
    *("window", "spacing", "score_on"),
)
"""Options that data which were there before them do not have."""


class FileDataset(ABC):
    """The Dataset contract over Sources. Subclasses are frozen dataclasses of their options."""

    @abstractmethod
    def find(self) -> Mapping[str, Sequence[Source]]:
        """Split -> its cases, headers checked; raises UserError with every bad file named."""

    @abstractmethod
    def read_coding(self) -> Coding:
        """What mask values mean; may read the masks, once."""

    @property
    @abstractmethod
    def resize_rule(self) -> str:
        """How files become images, and at what resolution they are scored."""

    nsd_tolerance: float | None

    def __post_init__(self) -> None:
        if self.nsd_tolerance is not None and not 0 < self.nsd_tolerance < math.inf:
            raise UserError(f"nsd_tolerance={self.nsd_tolerance:g} is not a distance above 0")
        self._by_id  # noqa: B018 - finds and checks the files now, not at first use

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names, background first."""
        return self.coding.names

    @property
    def in_channels(self) -> int:
        """C of every image."""
        return self._first.shape[0]

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self._first.shape) - 1

    @property
    def notes(self) -> Sequence[str]:
        """What was found and left out."""
        return (*self.coding.notes, *self.left_out)

    @property
    def left_out(self) -> Sequence[str]:
        """What lies beside the cases and is none, in sentences."""
        return ()

    @property
    def regrid(self) -> Regrid:
        """What becomes of a volume's own grid."""
        return OWN_GRID

    def network_shapes(self) -> set[tuple[int, ...]]:
        """The shapes (C, *spatial) that networks are shown, where cases stay on their own grid."""
        sources = (source for some in self._sources.values() for source in some)
        return {
            (source.shape[0], *self.regrid.network_grid(source.shape[1:], spacing))
            for source in sources
            if (spacing := getattr(source, "spacing", None)) is not None
        }

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, train and test first."""
        return tuple(self._sources)

    def entries(self, split: str) -> Sequence[Entry]:
        """The cases of a split, sorted by name.

        Raises:
            UserError: there is no such split.
        """
        if split not in self._sources:
            raise UserError(f"unknown split {split!r}{suggest(split, self._sources)}")
        return [Entry(s.case_id, s.group_id, s.shape) for s in self._sources[split]]

    def load(self, case_id: str) -> Case:
        """One case, its labels checked.

        Raises:
            UserError: no such case, or a file of it that cannot be used.
            BadFileError: the same, naming the file.
        """
        if case_id not in self._by_id:
            near = suggest(case_id, self._by_id).partition(" (valid")[0]
            raise UserError(f"unknown case {case_id!r}{near}")
        source = self._by_id[case_id]
        coding = self.coding
        try:
            picture = source.picture()
            raw = source.raw_mask()
            labels = coding.encode(raw, source.mask)
            valid = ~np.isin(raw, coding.outside) if coding.outside else source.valid()
            if valid is not None:
                if not valid.any():
                    raise BadFileError(source.roi or source.mask, NOTHING_VALID)
                labels[~valid] = IGNORE_INDEX
            if (labels == IGNORE_INDEX).all():
                ignored = [value for value in coding.ignore if value not in coding.outside]
                raise BadFileError(source.mask, all_ignored(ignored, within=valid is not None))
        except OSError as error:
            raise BadFileError(source.image, f"or its mask cannot be read ({error})") from None
        return Case(
            case_id=case_id,
            group_id=source.group_id,
            image=picture.pixels,
            labels=labels,
            class_names=coding.names,
            ignore_index=coding.ignore_index if valid is None else IGNORE_INDEX,
            intensity=picture.intensity,
            spacing=picture.spacing,
            affine=picture.affine,
            source=source.image,
            depth=picture.depth,
            nsd_tolerance=self.nsd_tolerance,
            regions=coding.regions or None,
            valid=valid,
        )

    def image_files(self, case_id: str) -> tuple[Path, ...]:
        """The files of a case's image: one for all channels, or one for each."""
        source = self._by_id[case_id]
        return source.pair.images if isinstance(source, PairSource) else (source.image,)

    def mask_files(self, case_id: str) -> tuple[Path, ...]:
        """The files of a case's truth: one that holds all, or one for each structure."""
        source = self._by_id[case_id]
        if isinstance(source, PairSource):
            return source.pair.masks
        return tuple(path for path in source.files if path != source.image)

    def fingerprint(self) -> str:
        """SHA-256 of the options, the splits and groups, and every file's content."""
        return self._fingerprint

    @cached_property
    def coding(self) -> Coding:
        """What mask values mean."""
        return self.read_coding()

    @cached_property
    def _sources(self) -> dict[str, tuple[Source, ...]]:
        found = self.find()
        if not any(found.values()):
            raise UserError("there is no case in this data set")
        names = [*("train", "test"), *sorted(found.keys() - {"train", "test"})]
        return {n: tuple(sorted(found.get(n, ()), key=lambda s: s.case_id)) for n in names}

    @cached_property
    def _by_id(self) -> dict[str, Source]:
        by_id: dict[str, Source] = {}
        for sources in self._sources.values():
            for source in sources:
                if source.case_id in by_id:
                    other = by_id[source.case_id].image
                    raise UserError(
                        f"{short_name(source.image)} and {short_name(other)} are both the case "
                        f"{source.case_id!r}; rename one"
                    )
                by_id[source.case_id] = source
        return by_id

    @property
    def _explained(self) -> bool:
        """Whether a file of the user's, and not its options alone, says what values mean."""
        return bool(self.coding.regions) or len(self.coding.ignore) > 1

    @property
    def _first(self) -> Source:
        return next(sources[0] for sources in self._sources.values() if sources)

    @cached_property
    def _fingerprint(self) -> str:
        options: dict[str, Any] = {
            f.name: getattr(self, f.name)
            for f in fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
            if f.name not in NOT_FINGERPRINTED
            and not (f.name in LATER and getattr(self, f.name) == f.default)
        }
        digest = hashlib.sha256()
        coding = self.coding
        header = [type(self).__name__, FORMAT, options, coding.names, coding.values]
        if self._explained:
            header += [coding.ignore, coding.regions]
        digest.update(json.dumps(header, sort_keys=True).encode())
        contents: dict[Path, str] = {}  # the slices of a volume share its files
        for split, sources in self._sources.items():
            for source in sources:
                files = source.files
                for path in files:
                    if path not in contents:
                        contents[path] = _sha256(path)
                row = [split, source.case_id, source.group_id, *(contents[p] for p in files)]
                digest.update(json.dumps(row).encode())
        return digest.hexdigest()


def _sha256(path: Path) -> str:
    try:
        require_regular(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadFileError(path, f"cannot be read ({error})") from None
