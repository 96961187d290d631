"""How many cases share a batch: by measured memory, and no more than bring a gain.

The choice changes no result (rule 2), only time and memory: on a CPU cases that are computed at the
same time have nothing in common. On an accelerator they share a kernel and its rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.engine.memory import free_bytes
from segbench.engine.network import Network

_SHARE = 0.4  # of free memory; the rest is for what autograd does not save
_CPU_BYTES = 256 * 2**20  # beyond this, and a case per thread, a CPU gains nothing from more
_LARGEST = 32


def choose_batch_size(network: Network, image: Tensor) -> int:
    """A power of two up to 32, from the bytes that one case (1, C, *spatial) keeps for backward."""
    alone = network.alone
    if network.one_by_one or (alone is not None and alone.one_after_another(image)):
        return 1
    needed = max(1, network.saved_bytes(image))
    allowed = _free_bytes(network.device) * _SHARE
    if alone is not None:
        allowed = min(allowed, max(_CPU_BYTES, torch.get_num_threads() * needed))
    size = 1
    while size < _LARGEST and 2 * size * needed <= allowed:
        size *= 2
    return size


def _free_bytes(device: torch.device) -> int:
    """What can still be had of the memory that the device computes in."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free_bytes()
