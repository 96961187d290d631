"""How much address space the process may take: libraries that lack it do not say so in a sentence.

Below what they need they end the process with status 1, which is the gate's, or with a fault, or
turn in a circle for ever, each as it happens to find out. So it is asked before they are loaded.
"""

from __future__ import annotations

from segbench.errors import MachineError

LEAST = 2 * 2**30
"""Bytes that PyTorch, SciPy, pandas and their threads take before any image is read."""


def require_address_space() -> None:
    """Refuse a limit, as ``ulimit -v`` sets it, that the libraries alone go beyond.

    Raises:
        MachineError: it is below ``LEAST``.
    """
    try:
        import resource
    except ImportError:
        return  # not POSIX
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST:
        raise MachineError(
            f"this process may take {limit / 2**30:.1f} GiB of address space (ulimit -v), and the "
            f"libraries alone need {LEAST / 2**30:g} GiB; raise that limit, and bound real memory "
            "by other means, such as a container's"
        )
