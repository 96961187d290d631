"""segbench.evaluate: what ``segbench attack`` does, from Python."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from segbench.api import Tables
from segbench.door.resolving import Data, named_by_text, pair_given
from segbench.door.undisturbed import undisturbed
from segbench.errors import UserError
from segbench.evaluation.plan import find_sources, plan_grid
from segbench.evaluation.records import validated
from segbench.evaluation.request import Listener, Request
from segbench.evaluation.run import run_grid
from segbench.evaluation.settle import settle
from segbench.plugins import registry
from segbench.plugins.report import write_report
from segbench.store.runs import RunRecord, joined
from segbench.store.workspace import Workspace, open_workspace
from segbench.tables.load import load_tables
from segbench.tables.texts import plain_texts

if TYPE_CHECKING:
    from pandas import DataFrame

    from segbench.evaluation.grid import Cell

_APART = {"models": "network", "dataset": "data"}


@dataclass(frozen=True, eq=False)
class Result:
    """What an evaluation found.

    Attributes:
        tables: everything a report may show; see :class:`segbench.api.Tables`.
        runs: the record of the run, and of each that ``until_settled`` has added, as they are kept.
    """

    tables: Tables
    runs: Sequence[RunRecord]

    @property
    def run(self) -> RunRecord:
        """The record of all runs as one: what was asked, with what, and what failed in any."""
        return joined(self.runs)

    @property
    def curves(self) -> DataFrame:
        """One row per attack, budget and metric: mean, interval, drop, cases."""
        return self.tables.curves

    @property
    def cases(self) -> DataFrame:
        """One row per case, attack and budget: every metric, averaged over classes."""
        return plain_texts(self.tables.cases)

    @property
    def summary(self) -> DataFrame:
        """One row per attack: one column per eps, area under the curve."""
        return self.tables.summary

    @property
    def notes(self) -> Sequence[str]:
        """What a reader must see beside the numbers."""
        return self.tables.notes

    def report(
        self, directory: Path | str, formats: Sequence[str] = ("markdown", "csv")
    ) -> list[Path]:
        """Write reports into a folder; the files.

        Raises:
            UserError: a format is unknown.
        """
        writers = [registry.load("reports", name) for name in formats]
        return [path for w in writers for path in write_report(w, self.tables, Path(directory))]

    def __repr__(self) -> str:
        names = " and ".join(self.summary["model"].unique())
        proved, cases = self.tables.certificates, self.cases["case_id"].nunique()
        how = [f"under {', '.join(self.tables.attacks)}"] if self.tables.attacks else []
        if len(proved):
            how.append(f"certified by {', '.join(proved['certificate'].unique())}")
        return f"<segbench.Result: {names} {' and '.join(how)}, {cases} cases>"


def evaluate(
    network: nn.Module | str,
    data: Data,
    *,
    workspace: Path | str | None = None,
    name: str | None = None,
    listener: Listener | None = None,
    **asked: Any,
) -> Result:
    """The adversarial scores of a network, over a grid of attacks and eps values.

    The network stays as it is: a copy is attacked, in evaluation mode.

    >>> import segbench, torch
    >>> network = torch.nn.Conv2d(1, 1, 1).requires_grad_(False)
    >>> _ = network.weight.fill_(9), network.bias.fill_(-4)
    >>> images = torch.rand(4, 1, 32, 32)
    >>> labels = (images[:, 0] > 0.5).long()
    >>> result = segbench.evaluate(network, (images, labels), attacks=["fgsm"], eps=["2/255"])
    >>> result
    <segbench.Result: Conv2d under fgsm, 4 cases>
    >>> jaccard = result.curves.query("metric == 'jaccard'")
    >>> jaccard[["attack", "eps", "cases"]].values.tolist()
    [['fgsm', '0', 4], ['fgsm', '2/255', 4]]

    Args:
        network: a module, or what ``segbench attack -m`` takes.
        data: a data set spec, a data set, or a pair of tensors or arrays: images (N, C, *spatial)
            in [0, 1] and labels (N, *spatial); :class:`segbench.InMemory` says more of such a
            pair.
        workspace: the folder or URL where trained networks lie and results are kept, so that
            nothing is computed twice; None for a temporary one.
        name: what reports call a network in memory; None for the name of its class.
        listener: is told what happens; None for warnings of what must be known, such as a case
            that failed and was left out (``result.run.failures`` has them all).
        asked: every option of ``segbench attack``, as a grid file writes them: ``attacks``,
            ``eps``, ``limit``, ``split``, ``seeds``, ``device``, ``normalize`` ...; see
            :class:`segbench.evaluation.request.Request`.

    Raises:
        segbench.errors.UserError: an option, the network or the data cannot be used.
        segbench.errors.MachineError: memory or the disk is full, or a plug-in fails.
    """
    for key, argument in _APART.items():
        if key in asked:
            raise UserError(f"{key} = {asked[key]!r} is said by the argument {argument}")
    request = named_by_text(validated(Request, asked), network, data)
    with undisturbed(), _opened(workspace) as store:
        grid = plan_grid(request)
        find_sources(grid, store)
        given = None if workspace is None else store
        pairs = pair_given(network, data, request, given, name)
        told = listener or Quiet()
        records = [run_grid(pairs, grid, store, request, told)]
        if request.until_settled:
            records = settle(pairs, request, store, records[0], told)
        return Result(load_tables(store, run=records), tuple(records))


@contextmanager
def _opened(root: Path | str | None) -> Iterator[Workspace]:
    """The workspace, or one that is gone afterwards."""
    if root is not None:
        yield open_workspace(root)
        return
    with tempfile.TemporaryDirectory(prefix="segbench-", ignore_cleanup_errors=True) as folder:
        yield Workspace(Path(folder))


class Quiet:
    """A listener that passes on what the user must know, as warnings."""

    def model(self, name: str, scores: int) -> None:
        """Nothing."""

    def cell(self, model: str, cell: Cell) -> None:
        """Nothing."""

    def busy(self, what: str) -> None:
        """Nothing."""

    def cases(self, computed: int, found: int) -> None:
        """Nothing."""

    def gradients(self, count: int) -> None:
        """Nothing."""

    def warn(self, sentence: str) -> None:
        """A warning of the line that has called ``segbench.evaluate``."""
        frame, level = sys._getframe(), 1
        while frame.f_back and frame.f_globals["__name__"].partition(".")[0] == "segbench":
            frame, level = frame.f_back, level + 1
        warnings.warn(sentence, UserWarning, stacklevel=level)
