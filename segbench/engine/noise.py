"""Random numbers as a pure function of (seed, data set, case, draw): counter-based, never of order.

A case meets the same random start at every eps, under every attack, in every batch and after every
resume. Philox (Salmon et al., SC 2011) is keyed by a SHA-256 of those four, so no state exists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class CaseNoise:
    """The noise of a batch of cases; see ``segbench.api.Noise``."""

    seed: int
    dataset: str
    case_ids: tuple[str, ...]
    device: torch.device

    def uniform(self, draw: int, shape: Sequence[int]) -> Tensor:
        """float32 (B, *shape), uniform in [0, 1)."""
        drawn = np.empty((len(self.case_ids), *shape), np.float32)
        for i, generator in enumerate(self._generators(draw)):
            generator.random(dtype=np.float32, out=drawn[i, ...])
        return torch.from_numpy(drawn).to(self.device)

    def normal(self, draw: int, shape: Sequence[int]) -> Tensor:
        """float32 (B, *shape), standard normal."""
        drawn = np.empty((len(self.case_ids), *shape), np.float32)
        for i, generator in enumerate(self._generators(draw)):
            generator.standard_normal(dtype=np.float32, out=drawn[i, ...])
        return torch.from_numpy(drawn).to(self.device)

    def select(self, index: Tensor) -> CaseNoise:
        """The noise of the cases at ``index`` (int64, one axis)."""
        chosen = tuple(self.case_ids[i] for i in index.tolist())
        return CaseNoise(self.seed, self.dataset, chosen, self.device)

    def torch_seed(self, draw: int = -1) -> int:
        """A seed for networks that draw random numbers of their own."""
        return _key(self.seed, self.dataset, "+".join(self.case_ids), draw) % 2**63

    def _generators(self, draw: int) -> list[np.random.Generator]:
        keys = [_key(self.seed, self.dataset, case, draw) for case in self.case_ids]
        return [np.random.Generator(np.random.Philox(key=key)) for key in keys]


def _key(seed: int, dataset: str, case: str, draw: int) -> int:
    text = "\0".join((str(seed), dataset, case, str(draw)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
