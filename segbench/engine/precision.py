"""The precision gradients are taken in: chosen by capability, never by a timing.

Decisions and scores are always IEEE fp32; see :mod:`segbench.engine.network`.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from segbench.errors import UserError

Policy = Literal["auto", "fp32"]

# Read when a process first multiplies; without it PyTorch refuses products that must repeat.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@dataclass(frozen=True)
class Precision:
    """A gradient precision and why it was chosen."""

    name: Literal["bf16", "fp32"]
    reason: str


def choose_precision(device: torch.device, policy: Policy) -> Precision:
    """bf16 where the hardware multiplies it natively, else fp32; ``policy="fp32"`` forces fp32."""
    if policy == "fp32":
        return Precision("fp32", "forced by --precision fp32")
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return Precision("bf16", f"compute capability {major}.{minor} has bf16 tensor cores")
        return Precision("fp32", f"compute capability {major}.{minor} has no bf16 tensor cores")
    if device.type == "cpu":
        if torch.cpu._is_amx_tile_supported():
            return Precision("bf16", "the CPU has AMX tiles")
        if torch.cpu._is_avx512_bf16_supported():
            return Precision("bf16", "the CPU has AVX512-BF16")
        return Precision("fp32", "the CPU has neither AMX nor AVX512-BF16")
    return Precision("fp32", f"bf16 is not vouched for on {device.type}")


def choose_device(name: str | None = None) -> torch.device:
    """The named device, or the accelerator if there is one, or the CPU.

    Raises:
        UserError: nothing can be put on a device of that name.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        usable = "cpu or cuda" if torch.cuda.is_available() else "cpu; torch sees no GPU"
        raise UserError(f"device {name!r} cannot be used here; try {usable}") from error
    return device


def device_name(device: torch.device) -> str:
    """The hardware's own name, as a report should cite it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def require_ieee_fp32() -> None:
    """Turn off every silent reduction of fp32, and every choice that a second run makes otherwise.

    Those are cuDNN's choice of kernels by timing, and on an accelerator the sums whose order is
    left to chance, such as in the gradient of a bilinear resizing. Where a layer has no other it
    keeps what it has; see ``Network.prepare``.
    """
    torch.set_float32_matmul_precision("highest")  # of cuBLAS and of oneDNN
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if torch.cuda.is_available():
        prefer_repeatable()


def prefer_repeatable() -> None:
    """Let accelerators sum in the same order every time, where they can."""
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    warnings.filterwarnings("ignore", ".*deterministic", UserWarning)


def attention_by_products() -> AbstractContextManager[Any]:
    """Within it attention is two matrix products and keeps the affinity of all pairs of positions.

    The fused kernel repeats itself at a fraction of its rate only.
    """
    return sdpa_kernel(SDPBackend.MATH)


@contextmanager
def only_repeatable() -> Iterator[None]:
    """Within it a layer that cannot but leave the order to chance raises RuntimeError.

    Attention is then ``attention_by_products``.
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True)
    try:
        with attention_by_products():
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
