"""Images as a network gets them, and their gradient, whatever it does with them."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(tensor: Tensor) -> Tensor:
    """The same images or weights (., C, *spatial), laid out channels-last.

    With one channel both layouts look alike, and torch then answers in the other one: a
    convolution from one channel to many would hand its successor images to be laid out anew.
    """
    layout = torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d
    laid_out = tensor.contiguous(memory_format=layout)
    if laid_out.shape[1] != 1:
        return laid_out
    strides = laid_out.stride()
    return laid_out.as_strided(laid_out.shape, (strides[0], 1, *strides[2:]))


def laid_out(tensor: Tensor) -> Tensor:
    """Images or weights (., C, *spatial) as fp32 convolutions of their device are fastest.

    Channels last on a CPU. Under CUDA, without TF32, some of cuDNN's kernels for that
    layout are several times as slow as those for the usual one.
    """
    return tensor.contiguous() if tensor.is_cuda else channels_last(tensor)


def handed(images: Tensor) -> Tensor:
    """Images (B, C, *spatial) as a network gets them: laid out for it, and nobody else's.

    They are a copy, and no leaf of autograd's graph, so that it may write into them: ``x -= mean``
    is common in a ``forward``.
    """
    return laid_out(laid_out(images).clone())


def input_gradient(total: Tensor, leaf: Tensor) -> Tensor:
    """d total / d leaf; 0 where the one does not depend on the other.

    By ``backward``, since re-entrant checkpointing refuses ``torch.autograd.grad``.
    """
    leaf.grad = None
    total.backward()  # type: ignore[no-untyped-call]
    gradient, leaf.grad = leaf.grad, None
    return torch.zeros_like(leaf) if gradient is None else gradient
