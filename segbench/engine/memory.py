"""Memory: what is free, how its lack is told from other failures, and why what is freed is kept.

glibc hands a large block back to the system when it is freed, and the next one comes in fresh
pages that the kernel must zero, one fault each. An attack frees and asks for hundreds of megabytes
at every step: on the CPU that was 7 % of a bf16 step of U-Net 32, and 20 % of an fp32 one.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4

_WORDS = (
    "out of memory",  # CUDA, HIP, MPS, XPU, and cuDNN's own
    "not enough memory",  # the CPU's allocator
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED and its sisters
    "allocation_failed",
    "erroroutofmemory",
    "errormemoryallocation",
    "bad_alloc",
)
_UNLIMITED = 1 << 62
_CUDA_ERROR_MEMORY_ALLOCATION = 2  # HIP's has the same number


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, for the rest of the process; False where there is none."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, -1))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failure is a lack of memory, by whatever type and words a library says so."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    if getattr(error, "error_code", None) == _CUDA_ERROR_MEMORY_ALLOCATION:
        return True
    text = str(error).lower()
    return any(words in text for words in _WORDS)


def free_bytes() -> int:
    """What this process can still have of the host's memory.

    With what the kernel would give up for it, and within the limits of the process and its group.
    """
    return min(_free_of_host(), _free_of_group(), _free_of_process())


def _free_of_host() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE")) // 2


def _free_of_group() -> int:
    """Of a container's share, cached files not counted."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (group / f"memory.{name}").read_text().strip() for name in ("max", "current")
        )
        pairs = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(dict(pairs)["inactive_file"])
        return _UNLIMITED if limit == "max" else max(0, int(limit) - int(used) + cached)
    except (OSError, KeyError, ValueError):
        return _UNLIMITED  # there is no such group


def _free_of_process() -> int:
    """Of what ``ulimit -v`` allows."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return _UNLIMITED
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        return max(0, limit - used)
    except (ImportError, OSError):
        return _UNLIMITED  # not POSIX, or not Linux
