"""Random numbers as a pure function of (seed, case, draw): counter-based, never of order.

A case meets the same random start at every eps, under every attack, in every batch, split and data
set, and after every resume. Philox (Salmon et al., SC 2011) is keyed by a SHA-256 of those three,
so no state exists.
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
    """The noise of a batch of cases; see ``segbench.api.Noise``.

    Attributes:
        contents: what tells the cases apart: ``Case.sha256`` of each.
        case_ids: what they are called, for errors; their contents where not given.
    """

    seed: int
    contents: tuple[str, ...]
    device: torch.device
    case_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.case_ids:
            object.__setattr__(self, "case_ids", self.contents)

    def uniform(self, draw: int, shape: Sequence[int]) -> Tensor:
        """float32 (B, *shape), uniform in [0, 1)."""
        drawn = np.empty((len(self.contents), *shape), np.float32)
        for i, generator in enumerate(self._generators(draw)):
            generator.random(dtype=np.float32, out=drawn[i, ...])
        return torch.from_numpy(drawn).to(self.device)

    def normal(self, draw: int, shape: Sequence[int]) -> Tensor:
        """float32 (B, *shape), standard normal."""
        drawn = np.empty((len(self.contents), *shape), np.float32)
        for i, generator in enumerate(self._generators(draw)):
            generator.standard_normal(dtype=np.float32, out=drawn[i, ...])
        return torch.from_numpy(drawn).to(self.device)

    def select(self, index: Tensor) -> CaseNoise:
        """The noise of the cases at ``index`` (int64, one axis)."""
        chosen = index.tolist()
        contents, names = ([of[i] for i in chosen] for of in (self.contents, self.case_ids))
        return CaseNoise(self.seed, tuple(contents), self.device, tuple(names))

    def torch_seed(self, draw: int = -1) -> int:
        """A seed for networks that draw random numbers of their own."""
        return _key(self.seed, "+".join(self.contents), draw) % 2**63

    def _generators(self, draw: int) -> list[np.random.Generator]:
        keys = [_key(self.seed, content, draw) for content in self.contents]
        return [np.random.Generator(np.random.Philox(key=key)) for key in keys]


def _key(seed: int, content: str, draw: int) -> int:
    text = "\0".join((str(seed), content, str(draw)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
