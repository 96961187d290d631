"""A loaded network made ready for the engine, on some cases of its data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from segbench.api import Case
from segbench.engine.network import Network
from segbench.engine.precision import choose_device, choose_precision
from segbench.errors import UserError
from segbench.evaluation.request import DataSource, Options
from segbench.networks import LoadedModel
from segbench.networks.adapt import adapt_network


def prepare_network(
    name: str, model: LoadedModel, data: DataSource, probe: Sequence[Case], options: Options
) -> Network:
    """A loaded network made ready for the engine, on some cases of its data, of one shape."""
    device = choose_device(options.device)
    module, marks = _adapted(name, model, data, device)
    policy = "fp32" if model.exact or marks else options.precision
    precision = choose_precision(device, policy)
    classes = len(data.dataset.class_names)
    network = Network(name, module, classes, device, precision, marks=marks)
    network.prepare(torch.stack([torch.from_numpy(case.image) for case in probe]).to(device))
    return network


def _adapted(
    name: str, model: LoadedModel, data: DataSource, device: torch.device
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network, a user's own one adapted to the data; and its marks."""
    if not model.own:
        return model.module, ()
    shapes = {entry.shape for entry in data.entries}
    try:
        adapted = adapt_network(model.module, shapes, model.normalization, device)
    except UserError as error:
        raise UserError(f"model {name}: {error}") from error
    return adapted.module, adapted.marks
