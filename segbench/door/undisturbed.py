"""A caller's torch, as it was before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is set for the engine meanwhile is set back after it: precision, random numbers.

    Nor does the caller's own matter to it: gradients off, inference mode, autocast.
    """
    cudnn = torch.backends.cudnn
    with ExitStack() as stack:
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        for flag in ("allow_tf32", "benchmark", "deterministic"):
            stack.callback(partial(setattr, cudnn, flag, getattr(cudnn, flag)))
        devices = range(torch.cuda.device_count())
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
