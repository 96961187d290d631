"""Whether a network is random, remembers what it was asked, or lets a batch influence its cases."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from segbench.engine.memory import is_out_of_memory

if TYPE_CHECKING:
    from segbench.engine.network import Network

_INFLUENCE = 1e-3  # of the largest logit: what a batch's rounding stays far below


def marks_of(network: Network, probe: Tensor, logits: Tensor) -> tuple[str, ...]:
    """Marks for what makes rows of a network doubtful; ``logits`` are its answer to the probe.

    A network of whose images no two fit in memory is noted as such.
    """
    if network.samples > 1:
        return (f"eot:{network.samples}",)
    if not torch.equal(logits, network.exact_logits(probe)):
        return ("random-network",) if _is_random(network, probe) else ("stateful-network",)
    if network.largest_batch == 1:
        return ()  # no two will ever share a batch
    alone = network.exact_logits(probe[:1])
    try:
        mated = network.exact_logits(paired(probe))[:1]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        network.largest_batch = 1
        return ()
    if (alone - mated).abs().amax() > _INFLUENCE * alone.abs().amax().clamp_min(1e-6):
        return ("batch-dependent",)
    return ()


def paired(probe: Tensor) -> Tensor:
    """The first image and an empty mate of another brightness (2, C, *spatial).

    It moves every statistic that a batch could share.
    """
    first = probe[:1]
    return torch.cat([first, torch.full_like(first, 0.0 if first.mean() > 0.25 else 1.0)])


def _is_random(network: Network, probe: Tensor) -> bool:
    """Whether it answers alike once every generator of random numbers stands where it stood.

    Otherwise it remembers what it was asked before.
    """
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    answers = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        answers.append(network.exact_logits(probe))
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    return torch.equal(*answers)
