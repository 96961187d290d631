"""The numbers of a tensor as bytes, for what is known by its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def tensor_bytes(tensor: Tensor) -> bytes:
    """Its numbers in their order; of any type, numpy's or not, any layout, and any size, 0 too."""
    import torch

    if not tensor.numel():
        return b""  # its stride may be 0, and then no other type can be seen in it
    dense = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
    flat = dense.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
