"""Cases of one shape, stacked on a network's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segbench.api import Case
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise


@dataclass(frozen=True, eq=False)
class Batch:
    """Cases of one shape on the device: images (B, C, *spatial), truth (B, *spatial)."""

    cases: Sequence[Case]
    images: Tensor
    truth: Tensor

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The cases' names."""
        return tuple(case.case_id for case in self.cases)

    @property
    def contents(self) -> tuple[str, ...]:
        """What they are known by."""
        return tuple(case.sha256 for case in self.cases)

    def noise(self, seed: int) -> CaseNoise:
        """Their random numbers."""
        return CaseNoise(seed, self.contents, self.images.device, self.case_ids)


def collate(cases: Sequence[Case], network: Network) -> Batch:
    """Cases of one shape, stacked on the network's device."""
    images = torch.from_numpy(np.stack([case.image for case in cases]))
    alone = cases[0].labels[None] if len(cases) == 1 else None  # a volume is not copied
    stacked = np.stack([case.labels for case in cases]) if alone is None else alone
    labels = torch.from_numpy(stacked).to(network.device)
    truth = network.as_truth(labels, cases[0].ignore_index, cases[0].regions)
    if network.device.type == "cuda":
        images = images.pin_memory()
    return Batch(cases, images.to(network.device, non_blocking=True), truth)
