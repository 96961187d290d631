"""What each case of a data set is known by, remembered under the data set's fingerprint.

<workspace>/results/cases/<fingerprint>.json

Rows are found by the content of a case, which only its pixels tell. So that a run that finds
everything need read no image but one (see ``same_answers.py``), their hashes are kept; whatever is
loaded to be computed is compared with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from importlib.metadata import version

from segbench import __version__
from segbench.api import Case, Dataset
from segbench.atomic import shown
from segbench.data.faults import listed
from segbench.data.file_dataset import READING
from segbench.errors import MachineError, UserError
from segbench.evaluation.case_cache import CaseCache
from segbench.evaluation.constants import constant_scores
from segbench.evaluation.file_axes import file_axes
from segbench.evaluation.requested import nsd_tolerance
from segbench.store.records import read_record, record_path, write_record
from segbench.store.workspace import Workspace

_READERS = ("numpy", "pillow", "nibabel")  # another version may decode otherwise


@dataclass(frozen=True)
class Known:
    """A case.

    Attributes:
        sha256: see ``Case.sha256``.
        nsd_tolerance: that of its normalised surface Dice.
        peak: its brightest pixel, in [0, 1].
        span: of the file's units, what [0, 1] stands for, per channel; () where that is not known.
        constants: see ``constant_scores``.
        axes: see ``file_axes``.
    """

    sha256: str
    nsd_tolerance: float
    peak: float
    span: tuple[float, ...]
    constants: tuple[float, ...]
    axes: str


class CaseIndex:
    """The cases of one data set."""

    def __init__(self, dataset: Dataset, workspace: Workspace) -> None:
        facts = {
            "fingerprint": dataset.fingerprint(),
            "segbench": __version__,
            "reading": READING,
            **{name: version(name) for name in _READERS},
        }
        self._path = record_path(workspace.results / "cases", facts)
        workspace.refresh(self._path.parent)
        self._known = self._read()

    def know(self, cases: CaseCache) -> Mapping[str, Known]:
        """Case id -> what it is known by, of every case of the cache.

        Raises:
            UserError: some cannot be read; all of them are named.
            MachineError: see ``verify``.
        """
        entries = [entry for shard in cases.shards for entry in shard]
        if any(entry.case_id not in self._known for entry in entries):
            for number in range(len(cases.shards)):
                for case in cases.load(number):
                    self._known.setdefault(case.case_id, _know(case))
                    self.verify(case)
            if cases.unreadable:
                raise UserError(f"cannot use this data: {listed(cases.unreadable.values())}")
            with suppress(MachineError):  # only a memory: the images are read again
                self._write()
        return {entry.case_id: self._known[entry.case_id] for entry in entries}

    def verify(self, case: Case) -> None:
        """Refuse a case that is not what it was under the same fingerprint.

        Raises:
            MachineError: the data set's fingerprint does not cover what its cases depend on.
        """
        if self._known[case.case_id] != _know(case):
            raise MachineError(
                f"case {case.case_id} has changed although the fingerprint of its data set has "
                "not: its plug-in's fingerprint() must cover all that determines its cases (or, if "
                f"the plug-in has been mended since, delete {shown(self._path)})"
            )

    def _read(self) -> dict[str, Known]:
        try:
            record = read_record(self._path) or {"cases": {}}
            return {
                name: Known(sha256, tolerance, peak, tuple(span), tuple(constants), axes)
                for name, facts in record["cases"].items()
                for sha256, tolerance, peak, span, constants, axes in [facts]
            }
        except (UserError, KeyError, TypeError, ValueError, AttributeError):
            return {}  # only a memory: read the images again

    def _write(self) -> None:
        cases = {name: astuple(known) for name, known in self._known.items()}
        write_record(self._path, {"cases": cases})


def _know(case: Case) -> Known:
    return Known(
        case.sha256,
        nsd_tolerance(case),
        float(case.image.max()),
        tuple(abs(scale.high - scale.low) for scale in case.intensity or ()),
        constant_scores(case),
        file_axes(case),
    )
