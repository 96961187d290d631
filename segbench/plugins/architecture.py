"""A model spec, checked against the data it is for, and built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from segbench.errors import MachineError, UserError
from segbench.plugins import registry, spec

_FROM_DATA = ("in_channels", "num_classes", "spatial_dims")


@dataclass(frozen=True)
class Architecture:
    """A registered network with all its hyper-parameters, not yet built.

    Attributes:
        text: the canonical spec.
        parameters: keyword arguments of the factory, defaults included, the data's sizes left out.
    """

    text: str
    plugin: registry.Plugin
    parameters: Mapping[str, Any]

    def build(self, *, in_channels: int, num_classes: int, spatial_dims: int) -> nn.Module:
        """The network, initialised from torch's global random state.

        Raises:
            UserError: the factory refuses the hyper-parameters (ValueError, TypeError, UserError).
            MachineError: the factory fails in any other way.
        """
        sizes = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "spatial_dims": spatial_dims,
        }
        try:
            network = self.plugin.factory(**sizes, **self.parameters)
        except (ValueError, TypeError, UserError) as error:
            raise UserError(f"model {self.text} cannot be built: {error}") from error
        except (Exception, SystemExit) as error:
            raise MachineError(
                f"model {self.text} of {self.plugin.distribution} failed to build: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(network, nn.Module):
            raise MachineError(
                f"model {self.text} of {self.plugin.distribution} built a "
                f"{type(network).__name__}, expected a torch.nn.Module"
            )
        return network

    def without_initial_weights(self) -> Architecture:
        """The same network built without its initial weights files, for a checkpoint to fill.

        A parameter whose name ends in ``weights`` names a file that is read once, before training.
        """
        kept = {k: v for k, v in self.parameters.items() if not k.endswith("weights")}
        return Architecture(self.text, self.plugin, kept)


def resolve_architecture(text: str, spatial_dims: int) -> Architecture:
    """The network that a spec means for data of 2 or 3 spatial dimensions.

    Raises:
        UserError: the name or a key is unknown, a value is of the wrong type, or the spec asks
            for other ``spatial_dims`` than the data has.
    """
    wanted = spec.parse(text)
    plugin = registry.load("models", wanted.name)
    given = dict(wanted.params)
    dims = given.pop("spatial_dims", str(spatial_dims))
    if dims != str(spatial_dims):
        raise UserError(
            f"model {wanted} asks for spatial_dims={dims}, but the data has {spatial_dims} "
            f"spatial dimensions; leave the key out or give spatial_dims={spatial_dims}"
        )
    bound = spec.bind(plugin.factory, spec.Spec(wanted.name, given), reserved=_FROM_DATA)
    defaults = {
        parameter.keyword: parameter.default
        for parameter in spec.parameters(plugin.factory, reserved=_FROM_DATA).values()
        if parameter.default is not inspect.Parameter.empty
    }
    return Architecture(str(wanted), plugin, {**defaults, **bound})
