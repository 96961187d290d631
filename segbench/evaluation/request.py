"""What is asked for: networks, attacks and cases, how to compute, and who is told what happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass as plain
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from segbench.api import Dataset, Entry
from segbench.engine.precision import Policy
from segbench.evaluation.certificate import Certify
from segbench.evaluation.grid import Cell, take_cases
from segbench.evaluation.pieces import parse_shard
from segbench.evaluation.records import (
    STRICT,
    Count,
    DataSpec,
    Eps,
    Flag,
    Paths,
    Seconds,
    Seeds,
    Share,
    Texts,
)
from segbench.networks.channels import Channels
from segbench.networks.tiling import Weights
from segbench.networks.wishes import Resize, Tta, Wishes
from segbench.plugins.spec import canonical


def _shard(value: Any) -> Any:
    """Text as it is, once it has been found to be a part of a grid."""
    return str(parse_shard(value)) if isinstance(value, str) else value


ExecutorName = Literal["local", "processes", "ray"]
ShardText = Annotated[str, BeforeValidator(_shard)]


@dataclass(frozen=True, config=STRICT)
class Options:
    """How to compute; only ``precision``, ``boundary``, ``lesions`` and ``tiles`` change a
    result.

    Attributes:
        precision: of gradients; decisions and scores are always fp32.
        device: None for the accelerator, if there is one.
        batch_size: cases per batch, None to choose by measured memory.
        boundary: whether hd95 and nsd are measured too.
        lesions: the intersection over union, from 0 up to 1, that a component of the prediction
            must exceed to count as a lesion that was found; None where lesions are not counted.
        quantize: whether images rounded to their file's levels are scored too.
        save_adversarial: whether the images are kept.
        pictures: whether small pictures of a few cases of every cell are kept, for reports.
        fresh: whether everything is computed anew, whatever is stored.
        allow_trained_cases: whether cases that a network was trained on are meant to be attacked.
        executor: ``local``, in this process; ``processes``, in several of this machine; ``ray``, in
            actors on this machine or a cluster.
        workers: processes on the one device; None for one, or one per device of ``devices``; under
            ``ray`` all actors together, None for one per GPU or per group of cores.
        devices: one process on each, ``cuda:0`` and so on; ``all`` for every accelerator.
        case_timeout: seconds that a case may take in a pool, None for any.
        shard: the part of the grid to be computed, ``3/16``; None for all of it.
        part: a file that names such a part case by case, see ``submission.py``; None for none.
        tiles: sides of the tiles that networks are asked about, ``128x128x128``; "" for the whole
            image at once. With ``overlap`` and ``tile_weights`` it is part of the network.
    """

    precision: Policy = "auto"
    device: str | None = None
    batch_size: Count | None = None
    boundary: Flag = False
    lesions: Share | None = None
    quantize: Flag = False
    save_adversarial: Flag = False
    pictures: Flag = True
    fresh: Flag = False
    allow_trained_cases: Flag = False
    executor: ExecutorName = "local"
    workers: Count | None = None
    devices: Texts = ()
    case_timeout: Seconds | None = None
    shard: ShardText | None = None
    part: Path | None = None
    tiles: str = ""
    overlap: Share = 0.5
    tile_weights: Weights = "gaussian"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Request(Options):
    """A whole grid as it is asked for: by ``segbench attack``, a grid file, or Python.

    Made by ``validated(Request, values)``, which takes eps as text or numbers.

    Attributes:
        models: what ``-m`` takes; none for every checkpoint of the workspace.
        weights: files of the networks of the user's own, in order.
        normalize: what those networks expect of their images, see ``networks/normalize.py``.
        channels: how their images are brought to their channel count.
        output: which tensor of their answer is the prediction.
        tta: what every image is also shown to every network as.
        resize_logits: how answers smaller than the images are enlarged.
        front: what every image passes before any network sees it, see ``networks/fronted.py``.
        attacks: attack specs.
        eps: exact values, sorted, each once.
        dataset: the canonical spec; None for the one that each network's card names.
        data_root: the data set's folder; None for the remembered one.
        split: of the data set's, or ``all``; None for ``test``, or for all cases of data that
            nobody has split under a network of the user's own.
        cases: a file that names the cases, one a line; None for all of the split.
        limit: at most so many cases, spread over the split.
        seeds: of the random starts, each a repetition of every attack.
        until_settled: whether budgets in doubt, stuck or still falling, are attacked again.
        certify: the certificates that are asked for, too; then there may be no attack.
    """

    models: Texts = ()
    weights: Paths = ()
    normalize: str = ""
    channels: Channels | None = None
    output: str = ""
    resize_logits: Resize | None = None
    tta: Tta | None = None
    front: str = ""
    attacks: Texts = ("standard",)
    eps: Eps = ()
    dataset: DataSpec | None = None
    data_root: Path | None = None
    split: str | None = None
    cases: Path | None = None
    limit: Count | None = None
    seeds: Seeds = (0,)
    until_settled: Flag = False
    certify: Certify | None = None

    @property
    def wishes(self) -> Wishes:
        """What is said of the networks of the user's own."""
        return Wishes(
            self.normalize, self.channels, self.output, self.resize_logits, self.tta, self.front
        )


@plain(frozen=True)
class DataSource:
    """A data set with what identifies it: its spec text, split and the cases taken."""

    spec: str
    dataset: Dataset
    split: str
    entries: Sequence[Entry]


class Listener(Protocol):
    """Told what happens; the command line shows it."""

    def model(self, name: str, scores: int) -> None:
        """A model's part begins: so many (cell, case) pairs to compute or to find."""
        ...

    def cell(self, model: str, cell: Cell) -> None:
        """A cell begins."""
        ...

    def busy(self, what: str) -> None:
        """Work goes on before a case can be there: an epoch of a fit, images of a source."""
        ...

    def cases(self, computed: int, found: int) -> None:
        """Cases of the cell are there: computed now, or found in the store."""
        ...

    def gradients(self, count: int) -> None:
        """So many gradients were taken for the cases that come next."""
        ...

    def warn(self, sentence: str) -> None:
        """Something the user must know; the run goes on."""
        ...


def select_data(
    spec: str,
    dataset: Dataset,
    split: str,
    limit: int | None,
    entries: Sequence[Entry] | None = None,
) -> DataSource:
    """The cases of a split, at most ``limit`` of them, evenly spread; ``spec`` is made canonical.

    Of ``entries``, where not all of the split are meant.

    Raises:
        UserError: ``spec`` is no spec.
    """
    taken = dataset.entries(split) if entries is None else entries
    return DataSource(canonical(spec), dataset, split, take_cases(taken, limit))
