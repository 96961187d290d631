"""segbench inspect: what segbench sees in a network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli.options import (
    DEFAULT_DATASET,
    SpecText,
    data_options,
    own_network_options,
    workspace_option,
)
from segbench.cli.terminal import say
from segbench.data import open_dataset
from segbench.errors import MachineError, UserError
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset
    from segbench.networks import LoadedModel, ModelReference
    from segbench.networks.wishes import Wishes


@click.command("inspect")
@click.argument("model", type=SpecText("models"))
@own_network_options
@data_options
@workspace_option
def command(
    model: str,
    weights: tuple[Path, ...],
    dataset: str | None,
    data_root: Path | None,
    workspace: Workspace,
    **said: Any,
) -> None:
    """Say what segbench sees in MODEL: size, cost, kind of answer, whether gradients flow.

    MODEL is what attack -m takes, or the spec of a network that is not trained yet. Without
    --dataset a trained one is shown the data that it was trained on.

    \b
    segbench inspect unet:width=16
    segbench inspect my_net.py:build --weights my_net.pt --dataset folder --data-root my_images
    """
    from segbench.networks import LoadedModel, data_of
    from segbench.networks.combined import shapes_of
    from segbench.networks.inspection import inspect_network
    from segbench.networks.wishes import Wishes
    from segbench.plugins.dataset import load_case

    wishes = Wishes(**said)
    reference = _find(model, weights, wishes, workspace)
    own = data_of(reference) if reference and dataset is None else ""
    spec = dataset or own or DEFAULT_DATASET
    data = open_dataset(spec, data_root)
    name = reference.name if reference else f"{model}, untrained"
    loaded = reference.load(data) if reference else LoadedModel(_untrained(model, data), "", {})
    split = next(split for split in data.splits if data.entries(split))
    case = load_case(data, data.entries(split)[0].case_id)
    say(f"{'model':<11} {name}")
    command = _next(model, weights, wishes, "" if own else spec, data_root)
    if loaded.card is not None:
        say(f"{'training':<11} {loaded.card.cost}")
    shapes = shapes_of(data) if loaded.original else set()
    for fact, value in inspect_network(name, loaded, case, len(data.class_names), shapes):
        say(f"{fact:<11} {value}")
        if fact == "marks":
            say(f"{'next':<11} {command}")
    if loaded.oracle:
        _compare(name, loaded, data, spec, workspace)


def _compare(name: str, model: LoadedModel, data: Dataset, spec: str, workspace: Workspace) -> None:
    """Its clean scores beside those that came with it; the workspace remembers how far apart."""
    from segbench.networks.loaded import AGREES
    from segbench.store.agreements import Agreement, write_agreement

    apart = []
    for case in model.oracle() if model.oracle else ():
        say(f"{'validation':<11} {case.text}")
        apart.append(case.apart)
    if not apart:
        say(f"{'validation':<11} none of the cases that it was measured on is in these data")
        return
    found = Agreement(
        model=name,
        weights_sha256=model.weights_sha256,
        dataset=spec,
        dataset_fingerprint=data.fingerprint(),
        cases=len(apart),
        apart=max(apart),
        agrees=max(apart) <= AGREES,
    )
    hint = "" if found.agrees else "; is this the data as its maker read it?"
    say(f"{'validation':<11} {found.sentence}{hint}")
    try:
        write_agreement(workspace, found)
    except MachineError as error:
        say(f"{'note':<11} segbench attack will not know of it: {error}")


def _next(
    model: str, weights: tuple[Path, ...], wishes: Wishes, dataset: str, data_root: Path | None
) -> str:
    """The command that attacks it; on the data that its card names where ``dataset`` is empty."""
    words = ["segbench", "attack", "-m", model]
    for file in weights:
        words += ["--weights", str(file)]
    for option, value in wishes.given().items():
        words += [option, value]
    for option, wished in (("--tta", wishes.tta), ("--front", wishes.front)):
        words += [option, wished] if wished else []
    words += ["--dataset", dataset] if dataset else []
    words += ["--data-root", str(data_root)] if data_root else []
    return shlex.join([*words, "--eps", "2/255,8/255"])


def _find(
    text: str, weights: tuple[Path, ...], wishes: Wishes, workspace: Workspace
) -> ModelReference | None:
    """A network of the user's own or a trained one; None for a registered one before training."""
    from segbench.networks import resolve_models
    from segbench.networks.wishes import NO_WISHES

    try:
        return resolve_models([text], workspace, weights, wishes)[0]
    except UserError:
        if weights or wishes != NO_WISHES or not _is_registered(text):
            raise
    return None


def _is_registered(text: str) -> bool:
    from segbench.plugins import registry
    from segbench.plugins.spec import parse

    try:
        name = parse(text).name
    except UserError:  # it is none, and what it was taken for has been refused
        return False
    family = name.partition("/")[0]
    return name in registry.names("models") or family in registry.families("models")


def _untrained(text: str, data: Dataset) -> nn.Module:
    """The network of a registered spec with fresh weights."""
    from segbench.plugins.architecture import resolve_architecture

    architecture = resolve_architecture(text, data.spatial_dims)
    return architecture.build(
        in_channels=data.in_channels,
        num_classes=len(data.class_names),
        spatial_dims=data.spatial_dims,
    )
