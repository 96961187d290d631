"""What a benchmark is run on: one network, some images, one attack; the same for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import networks
from volumes import Volumes

from segbench.data import load_dataset
from segbench.evaluation.request import DataSource, select_data
from segbench.networks import ModelReference, resolve_models
from segbench.plugins.spec import parse_eps
from segbench.store.workspace import Workspace

NETWORKS = Path(__file__).parent / "networks.py"


@dataclass(frozen=True)
class Setting:
    """All that the processes of a benchmark must agree on; plain values only.

    Attributes:
        network: the name of a factory in ``networks.py``, or what ``segbench attack -m`` takes.
        dataset: a data set spec; ``volumes`` are generated cubes of ``size`` voxels a side.
        eps: L-infinity budget as text; the step is ``rel_step * eps``.
        batches: batch sizes that a contender may choose from, whichever is fastest for it.
    """

    network: str = "unet32"
    weights: str | None = None
    workspace: str = "runs"
    dataset: str = "phantom-cxr"
    data_root: str | None = None
    size: int = 256
    cases: int = 4
    steps: int = 20
    eps: str = "4/255"
    rel_step: float = 0.25
    batches: tuple[int, ...] = (1, 4)
    device: str = "cpu"

    @property
    def radius(self) -> float:
        """eps as a number."""
        return float(parse_eps(self.eps))

    def reference(self) -> ModelReference:
        """The network, found but not loaded."""
        own = hasattr(networks, self.network)
        text = f"{NETWORKS}:{self.network}" if own else self.network
        weights = [Path(self.weights)] if self.weights else []
        found = resolve_models([text], Workspace(Path(self.workspace)), weights)
        if len(found) != 1:
            raise SystemExit(f"{self.network} is {len(found)} checkpoints; name one of them")
        return found[0]

    def data(self) -> DataSource:
        """The images."""
        if self.dataset == "volumes":
            volumes = Volumes(self.size, self.cases)
            return select_data("volumes", volumes, "test", self.cases)
        spec = self.dataset
        if "size=" not in spec:
            spec += f"{',' if ':' in spec else ':'}size={self.size}"
        root = Path(self.data_root) if self.data_root else None
        return select_data(spec, load_dataset(spec, root), "test", self.cases)
