"""`worst/NAME`: the worst plausible change of an image, found by gradient within stated limits."""

from __future__ import annotations

from segbench.plugins.registry import suggest
from segbench_attacks.geometry import Deformation, Pose
from segbench_attacks.intensity import BiasField, Contrast, Gamma
from segbench_attacks.plausible import Plausible

CHANGES: dict[str, type[Plausible]] = {
    "bias-field": BiasField,
    "contrast": Contrast,
    "deformation": Deformation,
    "gamma": Gamma,
    "pose": Pose,
}


def member(name: str) -> type[Plausible]:
    """The change of that name; ValueError, with the nearest one, for any other."""
    if name not in CHANGES:
        raise ValueError(f"there is no such change{suggest(name, CHANGES)}")
    return CHANGES[name]
