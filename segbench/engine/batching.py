"""How many cases share a batch: by measured memory, and no more than bring a gain.

The choice changes no result (rule 2), only time and memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.engine.handed import channels_last, handed
from segbench.engine.memory import free_bytes, is_out_of_memory
from segbench.engine.network import Network

_SHARE = 0.4  # of free memory; the rest is for what autograd does not save
_CPU_CACHE_BYTES = 256 * 2**20  # beyond this a CPU gains nothing from a larger batch
_LARGEST = 32


def choose_batch_size(network: Network, image: Tensor) -> int:
    """A power of two up to 32, from the bytes that one case (1, C, *spatial) keeps for backward."""
    if network.one_by_one:
        return 1
    try:
        needed = max(1, saved_bytes(network, image))
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return 1  # the first attack will say whether one case fits
        raise
    allowed = _free_bytes(network.device) * _SHARE
    if network.device.type == "cpu":
        allowed = min(allowed, _CPU_CACHE_BYTES)
    size = 1
    while size < _LARGEST and 2 * size * needed <= allowed:
        size *= 2
    return size


def saved_bytes(network: Network, image: Tensor) -> int:
    """Bytes of distinct activations, not weights, that a gradient of one case keeps alive."""
    module = network.gradient.module
    weights = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    leaf = channels_last(image.detach()).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):  # noqa: SIM117
        with torch.enable_grad(), network.gradient.autocast():
            module(handed(leaf))
    return sum(seen.values())


def _free_bytes(device: torch.device) -> int:
    """What can still be had of the memory that the device computes in."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free_bytes()
