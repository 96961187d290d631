"""Networks that ``segbench train`` made: a checkpoint, or all checkpoints of a spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.atomic import shown
from segbench.errors import UserError
from segbench.networks.hashes import layers_hash, source_hash
from segbench.networks.loaded import LoadedModel
from segbench.plugins import registry, spec
from segbench.plugins.architecture import resolve_architecture
from segbench.store.workspace import Workspace
from segbench.training.card import CARD_FILE, Card, find_checkpoints, load_card

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset


@dataclass(frozen=True)
class CheckpointReference:
    """A checkpoint folder made by ``segbench train``."""

    folder: Path
    card: Card
    alias: str = ""

    @property
    def name(self) -> str:
        """The folder's name, for example ``unet@jsrt#0``; see ``names.py``."""
        return self.alias or self.folder.name

    def load(self, dataset: Dataset) -> LoadedModel:
        """The best weights, checked against the card and the data set."""
        from segbench.training.checkpoint import load_checkpoint

        self._check(self.card, dataset)
        module, card = load_checkpoint(self.folder)
        self._check(card, dataset)  # it may be newer than the one that was found
        facts = {
            "spec": card.model,
            "parameters": card.parameters,
            "source": _source(module, card),
            "layers": layers_hash(module),
        }
        return LoadedModel(module, card.weights_sha256, facts, card=card)

    def _check(self, card: Card, dataset: Dataset) -> None:
        for fact, ours, theirs in (
            ("input channels", card.in_channels, dataset.in_channels),
            ("classes", card.num_classes, len(dataset.class_names)),
            ("spatial dimensions", card.spatial_dims, dataset.spatial_dims),
        ):
            if ours != theirs:
                raise UserError(
                    f"model {self.name} was trained for {ours} {fact}; the data set has {theirs}"
                )


def _source(network: nn.Module, card: Card) -> str:
    """See ``source_hash``; of the plug-in's package every module that is imported counts."""
    plugin = registry.load("models", spec.parse(card.model).name)
    return source_hash(network, plugin.factory, package=plugin.module.partition(".")[0])


def checkpoint_at(folder: Path) -> CheckpointReference:
    """The checkpoint in a folder.

    Raises:
        UserError: there is none, or its card cannot be read.
    """
    return CheckpointReference(folder, load_card(folder))


def all_trained(workspace: Workspace) -> list[CheckpointReference]:
    """All checkpoints of the workspace.

    Raises:
        UserError: there are none.
    """
    found = [checkpoint_at(folder) for folder in find_checkpoints(workspace)]
    if not found:
        raise UserError(
            f"no trained network in {shown(workspace.models)}; run segbench train first, "
            "or name one with -m"
        )
    return found


def is_checkpoint_folder(text: str) -> bool:
    """Whether a folder is meant; one that only shares its name with a registered model is not."""
    folder = Path(text)
    return folder.is_dir() and (
        (folder / CARD_FILE).exists() or text not in registry.names("models")
    )


def find_trained(text: str, workspace: Workspace) -> list[CheckpointReference]:
    """Checkpoints of a registered spec, or the checkpoint of that very name.

    Raises:
        UserError: there are none.
    """
    checkpoints, folder = find_checkpoints(workspace), workspace.models / text
    if folder.is_dir():
        return [checkpoint_at(folder)]
    parsed = spec.parse(text)
    found = [
        reference
        for path in checkpoints
        if (reference := checkpoint_at(path)).card.model == str(parsed)
    ]
    if found:
        return found
    # A name, a key or a value that cannot be is the likelier mistake.
    resolve_architecture(text, 3 if parsed.params.get("spatial_dims") == "3" else 2)
    raise UserError(
        f"no trained checkpoint of {text!r} in {shown(workspace.models)}; run segbench train "
        f"{text} first"
    )
