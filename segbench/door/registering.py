"""Plug-ins of a notebook or a script, without packaging."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, overload

from segbench.errors import UserError
from segbench.plugins import registry
from segbench.plugins.source import source_hash
from segbench.plugins.spec import parse

Target = TypeVar("Target", bound=Callable[..., Any])


@overload
def register_attack(name: str) -> Callable[[Target], Target]: ...
@overload
def register_attack(name: str, target: Target) -> Target: ...
def register_attack(name: str, target: Any = None) -> Any:
    """Make a frozen dataclass known as an attack for the rest of this process.

    As a decorator or as a function. Its source is part of what its results are known by, so an
    attack that was edited computes anew.

    >>> import segbench
    >>> from dataclasses import dataclass
    >>> @segbench.register_attack("darker")
    ... @dataclass(frozen=True)
    ... class Darker:
    ...     share: float = 1.0
    ...     needs = "labels"
    ...     budget_kind = "linf"
    ...     def run(self, objective, images, goal, budget, noise):
    ...         return (images - self.share * budget.eps).clamp(0, 1)
    >>> import torch
    >>> images, labels = torch.full((1, 1, 32, 32), 0.5), torch.zeros(1, 32, 32).long()
    >>> network = torch.nn.Conv2d(1, 2, 1)
    >>> segbench.attack(network, images, labels, "darker:share=0.5", eps=0.5).mean().item()
    0.25

    Args:
        name: as in ``attacks=[name]``.
        target: the class; see ``attacks/README.md`` for what it must offer.

    Raises:
        segbench.errors.UserError: the name is no name, or taken by another attack.
        segbench.errors.MachineError: the class is not what an attack must be.
    """
    return _register("attacks", name, target)


@overload
def register_model(name: str) -> Callable[[Target], Target]: ...
@overload
def register_model(name: str, target: Target) -> Target: ...
def register_model(name: str, target: Any = None) -> Any:
    """Make a factory known as a model for the rest of this process, as decorator or function.

    >>> import segbench, torch
    >>> @segbench.register_model("linear")
    ... def build(*, in_channels, num_classes, spatial_dims=2):
    ...     return torch.nn.Conv2d(in_channels, num_classes, 1)

    Args:
        name: as in a model spec.
        target: see :class:`segbench.api.ModelFactory`.

    Raises:
        segbench.errors.UserError: the name is no name, or taken by another model.
        segbench.errors.MachineError: the factory is not what a model must be.
    """
    return _register("models", name, target)


@overload
def register_dataset(name: str) -> Callable[[Target], Target]: ...
@overload
def register_dataset(name: str, target: Target) -> Target: ...
def register_dataset(name: str, target: Any = None) -> Any:
    """Make a factory known as a data set for the rest of this process, as decorator or function.

    >>> import numpy as np, segbench
    >>> @segbench.register_dataset("blank")
    ... def blank(count: int = 2):
    ...     return segbench.InMemory(np.zeros((count, 1, 32, 32)), np.zeros((count, 32, 32), int))

    Args:
        name: as in a data set spec, such as ``"blank:count=4"``.
        target: see :class:`segbench.api.Dataset`.

    Raises:
        segbench.errors.UserError: the name is no name, or taken by another data set.
    """
    return _register("datasets", name, target)


def _register(kind: registry.Kind, name: str, target: Any) -> Any:
    spec = parse(name)
    if spec.params or "/" in name:
        raise UserError(f"{name!r} is a spec; expected a plain name such as {spec.name!r}")
    if target is None:
        return lambda decorated: _register(kind, name, decorated)
    if not isinstance(target, (type, FunctionType)):
        raise UserError(f"the {kind[:-1]} {name!r} is {target!r}; expected a class or a function")
    module, source = target.__module__, source_hash(target)  # now: another may take its place
    plugin = registry.Plugin(
        kind, spec.name, target, module, source[:12], module=module, digest=source
    )
    registry.register(plugin)
    return target
