"""segbench: how wrong can a biomedical segmentation network be made, and is it getting worse?

    result = segbench.evaluate(network, (images, labels), attacks=["pgd"], eps=["2/255", "4/255"])
    result.curves, result.cases                    # DataFrames
    result.report("out/", formats=["markdown"])
    images = segbench.attack(network, images, labels, "apgd:steps=100", eps="4/255")

These, ``InMemory`` and ``register_attack``, ``register_model`` and ``register_dataset`` are loaded
when they are first used; see :mod:`segbench.door`. The contracts are in :mod:`segbench.api`;
everything a plug-in needs is there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segbench.door import (
        InMemory,
        Result,
        attack,
        certify,
        evaluate,
        register_attack,
        register_dataset,
        register_model,
    )

__all__ = [
    "InMemory",
    "Result",
    "__version__",
    "attack",
    "certify",
    "evaluate",
    "register_attack",
    "register_dataset",
    "register_model",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The door for Python, opened when it is first used: it brings torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("segbench.door"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
