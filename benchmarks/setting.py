"""What a benchmark is run on: one network, some images, one attack; the same for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import networks
import torch
from torch import Tensor, nn
from volumes import Volumes

from segbench.api import Case
from segbench.data import load_dataset
from segbench.errors import UserError
from segbench.evaluation.request import DataSource, select_data
from segbench.networks import ModelReference, resolve_models
from segbench.networks.stand_ins import adapt_model
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
        """The network, found but not loaded.

        Raises:
            UserError: it is none, or several.
        """
        own = hasattr(networks, self.network)
        text = f"{NETWORKS}:{self.network}" if own else self.network
        weights = [Path(self.weights)] if self.weights else []
        found = resolve_models([text], Workspace(Path(self.workspace)), weights)
        if len(found) != 1:
            raise UserError(f"{self.network} is {len(found)} checkpoints; name one of them")
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

    def cases_of_a_loop(self, data: DataSource) -> list[Case]:
        """The cases, for a loop that stacks images and takes the cross-entropy of all pixels.

        Raises:
            UserError: on these data segbench attacks something else than such a loop.
        """
        cases = [data.dataset.load(entry.case_id) for entry in data.entries]
        for case in cases:
            if case.regions is not None:
                reason = "has structures that overlap"
            elif case.valid is not None or (case.labels == case.ignore_index).any():
                reason = "has pixels that do not count"
            elif case.image.shape != cases[0].image.shape:
                reason = "has another shape than the first one"
            else:
                continue
            raise UserError(
                f"{case.case_id} of {data.spec} {reason}: a loop by hand attacks whole images of "
                "one shape by the cross-entropy of exclusive classes; name other data"
            )
        return cases

    def tensors(self, data: DataSource) -> tuple[Tensor, Tensor]:
        """Images (B, C, *spatial) and labels (B, *spatial) of such a loop, on the device."""
        cases = self.cases_of_a_loop(data)
        images = torch.stack([torch.from_numpy(case.image) for case in cases])
        labels = torch.stack([torch.from_numpy(case.labels) for case in cases])
        return images.to(self.device), labels.to(self.device)

    def module(self, data: DataSource) -> nn.Module:
        """The network in evaluation mode on the device: images in [0, 1] to logits, as attacked."""
        model = self.reference().load(data.dataset)
        if model.own:
            shapes = {entry.shape for entry in data.entries}
            classes = len(data.dataset.class_names)
            first = data.entries[0].case_id
            model, adapted = adapt_model(
                model, shapes, classes, lambda: torch.from_numpy(data.dataset.load(first).image)
            )
            module = adapted.module
        else:
            module = model.module
        return module.to(self.device).eval()
