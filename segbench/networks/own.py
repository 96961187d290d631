"""What every network of the user's own has in common, wherever it comes from."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from segbench.networks.channels import channels_seen
from segbench.networks.hashes import layers_hash, state_hash
from segbench.networks.loaded import LoadedModel
from segbench.networks.normalize import Normalization, parse_normalization
from segbench.networks.wishes import Wishes

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset


def wanted_images(wishes: Wishes, dataset: Dataset) -> Normalization | None:
    """What ``--normalize`` and ``--channels`` say of a network; None if they are not given."""
    seen = channels_seen(wishes.channels, dataset.in_channels)
    wanted = parse_normalization(wishes.normalize, seen) if wishes.normalize else None
    if not wishes.channels:
        return wanted
    return replace(wanted or Normalization(), channels=wishes.channels)


def own_model(
    network: nn.Module, source: str, dataset: Dataset, wishes: Wishes, *, exact: bool = False
) -> LoadedModel:
    """A network of the user's own, with what they say of it.

    Args:
        exact: whether it is a file that holds its code and weights; ``source`` is then all of it.

    Raises:
        UserError: that does not fit the data set.
    """
    wanted = wanted_images(wishes, dataset)
    facts: dict[str, Any] = {"source": source}
    if not exact:
        facts["layers"] = layers_hash(network)
    if wanted:
        facts["normalization"] = asdict(wanted)
    if wishes.resize_logits:
        facts["resize"] = wishes.resize_logits
    weights = state_hash(network)
    return LoadedModel(network, weights, facts, True, wanted, wishes, exact)
