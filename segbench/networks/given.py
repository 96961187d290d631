"""A network that is there already: an ``nn.Module`` of a notebook or of a training loop."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segbench.errors import UserError
from segbench.networks.hashes import source_hash
from segbench.networks.loaded import LoadedModel
from segbench.networks.own import own_model
from segbench.networks.wishes import NO_WISHES, Wishes
from segbench.plugins.source import code_hash

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset


@dataclass(frozen=True, eq=False)
class GivenReference:
    """A network in memory; it is copied when it is loaded, and stays as it is."""

    network: nn.Module
    name: str
    wishes: Wishes = NO_WISHES

    def load(self, dataset: Dataset) -> LoadedModel:
        """A copy of the network as it is now.

        Raises:
            UserError: it cannot be copied.
        """
        network = unwrapped(self.network)
        source = hashlib.sha256(f"{source_hash(network)} {configuration_hash(network)}".encode())
        copied = _copied(network, self.name)
        return own_model(copied, source.hexdigest(), dataset, self.wishes)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, without what spreads it over devices or compiles it."""
    from torch import nn

    if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(network.module)
    compiled = getattr(network, "_orig_mod", None)
    return unwrapped(compiled) if isinstance(compiled, nn.Module) else network


def configuration_hash(network: nn.Module) -> str:
    """SHA-256 (hex) of what makes a network besides its weights and the files of its classes.

    No factory says how it was built, so of every layer the attributes count, the hooks, and the
    code of its class where that has no file.
    """
    digest = hashlib.sha256()
    for name, layer in network.named_modules():
        for line in _configuration(layer):
            digest.update(f"{name}.{line}\n".encode())
    return digest.hexdigest()


def _configuration(layer: nn.Module) -> Iterator[str]:
    from torch import nn

    yield f"{type(layer).__qualname__} {code_hash(type(layer))}"
    of_torch = vars(nn.Module()).keys()
    for name, value in sorted(vars(layer).items()):
        if name not in of_torch:
            yield f"{name}={code_hash(value)}"
    for hooks in (layer._forward_pre_hooks, layer._forward_hooks):
        yield code_hash(list(hooks.values()))


def _copied(network: nn.Module, name: str) -> nn.Module:
    try:
        copied = copy.deepcopy(network)
    except Exception as error:  # a module may hold anything
        raise UserError(
            f"network {name} cannot be copied ({type(error).__name__}: {error}); give the plain "
            "module, without what is attached to it for training"
        ) from error
    copied.zero_grad(set_to_none=True)
    return copied
