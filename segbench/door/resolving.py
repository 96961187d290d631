"""What ``network`` and ``data`` may be: networks with their cases, as the engine wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from segbench.api import Dataset
from segbench.data.in_memory import SPLIT, InMemory
from segbench.engine.handed import handed
from segbench.errors import ContractError, UserError
from segbench.evaluation.plan import find_models, pair_with_data
from segbench.evaluation.request import select_data
from segbench.evaluation.subject import load_subject
from segbench.evaluation.taken import take_asked
from segbench.networks.archive import is_archive
from segbench.networks.combined import CombinedReference
from segbench.networks.foreign import is_factory
from segbench.networks.fronted import FrontedReference, read_front
from segbench.networks.given import GivenReference, unwrapped
from segbench.networks.imported import read_import
from segbench.networks.trained import is_checkpoint_folder
from segbench.plugins.contract import check_dataset
from segbench.plugins.spec import canonical
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from segbench.evaluation.request import DataSource, Options, Request
    from segbench.networks import ModelReference

Data = str | Dataset | tuple[Any, Any]


def pair_given(
    network: nn.Module | str,
    data: Data,
    request: Request,
    workspace: Workspace | None,
    name: str | None,
) -> list[tuple[ModelReference, DataSource]]:
    """Each network that is meant, with its cases.

    Raises:
        UserError: the network or the data cannot be used.
    """
    references = find_given(network, request, workspace, name)
    around = [surrounded(reference, request) for reference in references]
    if isinstance(data, str):
        return pair_with_data(around, replace(request, dataset=data))
    dataset = _as_dataset(data)
    if isinstance(dataset, InMemory):
        dataset = fit_classes(dataset, references[0], request)
    name = dataset.name if isinstance(dataset, InMemory) else type(dataset).__name__
    source = take_asked(name, dataset, request, trained=False)
    return [(reference, source) for reference in around]


def named_by_text(request: Request, network: nn.Module | str, data: Data) -> Request:
    """The request with its network and data, which other processes read again.

    Raises:
        UserError: they are to, and one of the two is in this one's memory.
    """
    if request.executor == "local":
        return request
    if isinstance(network, str) and isinstance(data, str):
        return replace(request, models=(network,), dataset=canonical(data))
    raise UserError(
        f"the executor {request.executor} needs a network and data that are named by text; what is "
        "in the memory of one process is evaluated by the executor local"
    )


def find_given(
    network: nn.Module | str, request: Request, workspace: Workspace | None, name: str | None = None
) -> Sequence[ModelReference]:
    """The networks that are meant: one in memory, or all of a text.

    Raises:
        UserError: it is neither, or the text is looked up in a workspace and there is none.
    """
    if isinstance(network, nn.Module):
        if request.weights:
            raise UserError(
                f"weights = {str(request.weights[0])!r} belong to a factory; a network in memory "
                "has its own"
            )
        name = name or type(unwrapped(network)).__name__
        return [GivenReference(network, name, request.wishes)]
    if not isinstance(network, str):
        raise UserError(
            f"network is of type {type(network).__name__}; expected a torch.nn.Module, or the text "
            "that segbench attack -m takes"
        )
    if name is not None:
        raise UserError(f"name = {name!r} is for a network in memory; {network!r} has its own name")
    alone = (
        read_import(network) is not None
        or is_checkpoint_folder(network)
        or is_factory(network)
        or is_archive(network)
    )
    if workspace is None and not alone:
        raise UserError(
            f"network {network!r} is looked up among those trained in a workspace; "
            'say which, for example workspace="runs"'
        )
    return find_models(replace(request, models=(network,)), workspace or Workspace(Path()))


def surrounded(reference: ModelReference, request: Request) -> ModelReference:
    """A network that was given, under the flips and behind the front asked for.

    One that was named is that already.
    """
    if not isinstance(reference, GivenReference):
        return reference
    whole: ModelReference = reference
    if request.tta is not None:
        whole = CombinedReference((whole,), flips=True)
    return FrontedReference(whole, read_front(request.front)) if request.front else whole


def fit_classes(data: InMemory, reference: ModelReference, options: Options) -> InMemory:
    """The data with as many classes as a network in memory answers with.

    Raises:
        UserError: the labels hold others, or the network cannot take the images.
    """
    if not isinstance(reference, GivenReference):
        return data
    subject = load_subject(reference, select_data(data.name, data, SPLIT, 1), options)
    images = torch.from_numpy(data.images[:1]).to(subject.device)
    with torch.no_grad():
        channels = subject.module(handed(images)).shape[1]
    several = channels > 1 and getattr(subject.module, "output", "softmax") == "sigmoid"
    classes, highest = max(channels + several, 2), len(data.class_names) - 1
    if highest >= classes:
        raise UserError(
            f"labels hold {highest}, but {reference.name} answers with {classes} classes, 0 to "
            f"{classes - 1}; where it marks pixels to be ignored, say so (ignore_index={highest} "
            "of segbench.InMemory and segbench.attack)"
        )
    return data if highest + 1 == classes else data.with_classes(classes)


def _as_dataset(data: Any) -> Dataset:
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return InMemory(*data)
    if isinstance(data, InMemory):
        return data
    if all(callable(getattr(data, member, None)) for member in ("entries", "load", "fingerprint")):
        try:
            check_dataset(data)
        except ContractError as error:
            raise UserError(
                f"the data set {type(data).__name__} breaks its contract: {error}"
            ) from error
        return data  # type: ignore[no-any-return]
    raise UserError(
        f"data are of type {type(data).__name__}; expected a data set spec, a data set "
        "(segbench.api.Dataset), or a pair (images, labels)"
    )
