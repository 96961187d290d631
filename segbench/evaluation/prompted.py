"""Networks that take a prompt, which is drawn from the truth of a case."""

from __future__ import annotations

from torch import nn


def takes_prompts(module: nn.Module) -> bool:
    """Whether a network, or a part of it, is prompted."""
    return any(getattr(part, "prompted", False) for part in module.modules())
