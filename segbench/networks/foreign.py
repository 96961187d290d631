"""A network of the user's own, built by a factory in a module or a file of theirs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.errors import MachineError, UserError
from segbench.networks.channels import channels_seen
from segbench.networks.hashes import source_hash
from segbench.networks.loaded import LoadedModel
from segbench.networks.own import own_model
from segbench.networks.wishes import NO_WISHES, Wishes
from segbench.plugins.own_code import OwnCode, read_own
from segbench.plugins.siblings import files_of, importable

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset


@dataclass(frozen=True)
class ForeignReference:
    """``module:factory`` or ``path.py:factory``, with a weights file or the factory's own."""

    text: str
    weights: Path | None = None
    wishes: Wishes = NO_WISHES
    alias: str = ""

    @property
    def own(self) -> OwnCode:
        """The module and the factory that the text names."""
        own = read_own("model", self.text)
        assert own is not None, self.text
        return own

    @property
    def name(self) -> str:
        """For example ``unet16:build`` for ``networks/unet16.py:build``; see ``names.py``."""
        return self.alias or self.own.name

    @property
    def module(self) -> str:
        """The file or module that holds the factory."""
        return self.own.module

    def load(self, dataset: Dataset) -> LoadedModel:
        """Call the factory with those of the data set's sizes that it takes, then load weights."""
        from segbench.training.weights import load_weights

        with importable(self.own.folder) as siblings:
            factory = self.own.find()
            network = self._build(factory, dataset)
            own = [self.own.path] if self.own.path else []  # it may have its factory of others
            source = source_hash(network, factory, [*own, *files_of(siblings())])
        if self.weights:
            load_weights(network, self.weights)
        return own_model(network, source, dataset, self.wishes)

    def _build(self, factory: Callable[..., Any], dataset: Dataset) -> nn.Module:
        from torch import nn

        sizes = {
            "in_channels": channels_seen(self.wishes.channels, dataset.in_channels),
            "num_classes": len(dataset.class_names),
            "spatial_dims": dataset.spatial_dims,
        }
        try:
            network = factory(**_accepted(factory, sizes))
        except (Exception, SystemExit) as error:
            raise MachineError(
                f"the factory {self.text} failed: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(network, nn.Module):
            raise UserError(f"{self.text} returned {type(network).__name__}; expected a Module")
        return network


def is_factory(text: str) -> bool:
    """Whether a factory is meant, and no spec with parameters."""
    own = read_own("model", text)
    return own is not None and not own.parameters


def _accepted(factory: Callable[..., Any], sizes: dict[str, int]) -> dict[str, int]:
    """Those of the sizes that the factory has a parameter for."""
    from torch import nn

    if getattr(factory, "__init__", None) is nn.Module.__init__:
        return {}  # a class without one of its own: what it says it accepts, it refuses
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return sizes
    return {name: sizes[name] for name in sizes if name in {p.name for p in parameters}}
