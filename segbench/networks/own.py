"""What every network of the user's own has in common, wherever it comes from."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from segbench.networks.channels import Channels, channels_seen
from segbench.networks.hashes import layers_hash, state_hash
from segbench.networks.loaded import LoadedModel
from segbench.networks.normalize import Normalization, parse_normalization

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset


def wanted_images(
    normalize: str, channels: Channels | None, dataset: Dataset
) -> Normalization | None:
    """What ``--normalize`` and ``--channels`` say of a network; None if they are not given."""
    seen = channels_seen(channels, dataset.in_channels)
    wanted = parse_normalization(normalize, seen) if normalize else None
    return replace(wanted or Normalization(), channels=channels) if channels else wanted


def own_model(
    network: nn.Module, source: str, wanted: Normalization | None, *, exact: bool
) -> LoadedModel:
    """A network of the user's own, with what it wants of its images."""
    facts: dict[str, Any] = {"source": source, "layers": layers_hash(network)}
    if wanted:
        facts["normalization"] = asdict(wanted)
    return LoadedModel(network, state_hash(network), facts, True, wanted, exact)
