"""The card of a checkpoint: everything needed to rebuild its network and to trust it.

<workspace>/models/<model>@<data>#<seed>/
    model.safetensors   the weights of the epoch that validated best
    last.safetensors    the weights of the last epoch
    card.json           this record, written last: a folder with a card is complete
    training.pt         the state of an unfinished training, gone when it is done
    .lock               held by the process that trains it
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from segbench.atomic import read_regular, read_whole, shown
from segbench.errors import UserError
from segbench.plugins.spec import canonical
from segbench.store.records import digest
from segbench.store.workspace import Workspace
from segbench.training.recipes import Recipe

BEST_FILE = "model.safetensors"
LAST_FILE = "last.safetensors"
CARD_FILE = "card.json"
UNFINISHED_FILE = "training.pt"

_CHECKSUM = "sha256"  # of a card's other facts; older cards have none
_LONGEST_SPEC = 80
_PLAIN = {":": "-", "/": "+"}


class Settings(BaseModel):
    """What determines the weights of a training, up to floating-point noise.

    Attributes:
        model: the spec as the user wrote it, keys sorted.
        parameters: every hyper-parameter of the network, defaults included.
        class_names: K names, background first.
        dataset: the data set's registered name.
        defence: the spec of how batches are learnt from, keys sorted; "" for as they are.
        defence_parameters: every parameter of it, defaults included.
        start_from: SHA-256 of the weights that training began with; "" for those of the seed.
        train_cases: case ids; with ``validation_cases`` they make up the split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    parameters: dict[str, Any]
    in_channels: int
    num_classes: int
    spatial_dims: int
    class_names: tuple[str, ...]
    dataset: str
    dataset_spec: str
    dataset_fingerprint: str
    split: str
    train_cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    recipe: Recipe
    seed: int
    defence: str = ""
    defence_parameters: dict[str, Any] = {}
    start_from: str = ""

    @field_validator("dataset_spec")
    @classmethod
    def _one_way_to_write_it(cls, text: str) -> str:
        try:
            return canonical(text)
        except UserError as error:
            raise ValueError(str(error)) from None


class EpochScore(BaseModel):
    """One line of a training's history.

    Attributes:
        jaccard: of what was held out; None where nothing was.
        gradients: images of which a gradient was asked, of the weights or of their pixels; None in
            older records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: float
    jaccard: float | None
    seconds: float
    gradients: int | None = None


class Learnt(BaseModel):
    """Cases that a training knew of from the one that it began with.

    Attributes:
        cases: their ids in the data set of that fingerprint.
        contents: ``Case.sha256`` of those that were read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_fingerprint: str
    cases: tuple[str, ...]
    contents: tuple[str, ...]


class Card(Settings):
    """The settings of a finished training and what came out of it.

    Attributes:
        plugin: the distribution that the architecture came from.
        best_epoch: the epoch of ``model.safetensors``, counted from 1; the last of a defence.
        best_jaccard: mean validation Jaccard of that epoch, in fp32.
        contents: ``Case.sha256`` of the cases that were trained and validated on, by case id.
        inherited: what the weights that it began with were trained and validated on.
        versions: of segbench, python, torch, monai and the plug-in's distribution.
        weights_sha256: of the file ``model.safetensors``.
        precision: of the forward and backward passes; weights are always fp32.
        created: UTC, ISO 8601.
        seconds: of training and validation, interruptions left out.
        gradients: that the training took, by weights or pixels, an image each; None in older cards.
        start_gradients: those of the weights that it began with, and of whatever these began with;
            None where it began with the weights of its seed, or it is not known.
    """

    schema_version: Literal[1] = 1
    plugin: str
    best_epoch: int
    best_jaccard: float | None
    last_jaccard: float | None
    history: tuple[EpochScore, ...]
    contents: dict[str, str] = {}
    inherited: tuple[Learnt, ...] = ()
    versions: dict[str, str]
    weights_sha256: str = ""
    hardware: str
    precision: str
    created: str
    seconds: float
    gradients: int | None = None
    start_gradients: int | None = None

    @property
    def all_gradients(self) -> int | None:
        """What its weights took in all, those that it began with included; None if not known."""
        if self.gradients is None or not self.start_from:
            return self.gradients
        return None if self.start_gradients is None else self.gradients + self.start_gradients

    @property
    def cost(self) -> str:
        """How it was trained, from where, and what that took, in words."""
        return f"{self._own_cost}{self._start}"

    @property
    def _start(self) -> str:
        if not self.start_from:
            return ""
        known = self.start_gradients
        took = "gradients unknown" if known is None else f"{known} gradients"
        return f", begun from the weights {self.start_from[:12]}… ({took})"

    @property
    def _own_cost(self) -> str:
        epochs, cases = len(self.history), len(self.train_cases)
        how = f"{self.defence or 'no defence'}, {epochs} epochs of {cases} cases"
        if self.gradients is None:
            return how
        each = self.gradients / epochs / cases
        return f"{how}, {self.gradients} gradients ({each:.3g} a case and epoch)"


def checkpoint_name(model_spec: str, dataset_spec: str, seed: int, defence: str = "") -> str:
    """The folder name of a checkpoint: ``unet-width=16@jsrt#0`` for ``unet:width=16``.

    With a defence ``unet_with_pgd-at-eps=8+255@jsrt#0``.

    The rule: keys are sorted; ``:`` becomes ``-`` and ``/`` becomes ``+``; every other character
    but letters, digits and ``.,=+-_`` becomes ``_``. A spec that loses something by that, or is
    longer than 80 characters, is cut and ends in eight digits of its SHA-256, so that two specs
    never share a folder.

    Raises:
        UserError: one of the texts is not a spec.
    """
    defended = f"_with_{_legal(defence)}" if defence else ""
    return f"{_legal(model_spec)}{defended}@{_legal(dataset_spec)}#{seed}"


def _legal(spec_text: str) -> str:
    text = canonical(spec_text)
    lossless = "".join(_PLAIN.get(character, character) for character in text)
    legal = "".join(c if c.isascii() and (c.isalnum() or c in ".,=+-_") else "_" for c in lossless)
    if legal == lossless and len(legal) <= _LONGEST_SPEC:
        return legal
    return f"{legal[:_LONGEST_SPEC]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def load_card(folder: Path) -> Card:
    """The card of a checkpoint folder.

    Raises:
        UserError: there is none, it is not as it was written, or not a card that this version can
            read.
    """
    return read_whole(folder / CARD_FILE, lambda: _load_card(folder))


def _load_card(folder: Path) -> Card:
    path = folder / CARD_FILE
    try:
        text = read_regular(path).decode()
    except (OSError, UnicodeDecodeError):
        unfinished = (folder / UNFINISHED_FILE).exists()
        state = "an unfinished training" if unfinished else "no readable card.json"
        raise UserError(
            f"{shown(folder)} is not a checkpoint: it holds {state}; "
            "expected a folder that segbench train has finished"
        ) from None
    try:
        return Card.model_validate_json(_verified(text, path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{shown(path)} is not a card of schema version 1 ({where}: {first['msg']}); train "
            "again, or use the segbench version that wrote it"
        ) from None


def _verified(text: str, path: Path) -> str:
    """The card without its checksum, where it has one; what is no card comes back as it is.

    Raises:
        UserError: the checksum is not that of the facts.
    """
    try:
        facts = json.loads(text)
        if (checksum := facts.pop(_CHECKSUM, None)) is None:
            return text
        right = checksum == digest(facts)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return text
    if not right:
        raise UserError(
            f"{shown(path)} is damaged (its checksum is not that of its content); restore the "
            "file, or train again"
        )
    return json.dumps(facts)


def card_bytes(card: Card) -> bytes:
    """The file of a card, with its checksum."""
    facts = json.loads(card.model_dump_json())
    return (json.dumps(facts | {_CHECKSUM: digest(facts)}, indent=2) + "\n").encode()


def find_checkpoints(workspace: Workspace) -> list[Path]:
    """The folders of all finished checkpoints of a workspace, sorted by name."""
    workspace.refresh(workspace.models, deep=True)
    return sorted(card.parent for card in workspace.models.glob(f"*/{CARD_FILE}"))


def difference(ours: Settings, theirs: Settings) -> str | None:
    """The first setting in which two trainings differ, in words; None if there is none.

    Compared as JSON, since that is all a card can hold.
    """
    wanted, found = (
        json.loads(settings.model_dump_json(include=set(Settings.model_fields)))
        for settings in (ours, theirs)
    )
    for name in Settings.model_fields:
        if wanted[name] == found[name]:
            continue
        if isinstance(wanted[name], dict):
            inner = next(
                key
                for key in [*wanted[name], *found[name]]
                if wanted[name].get(key) != found[name].get(key)
            )
            return f"{name}.{inner} is {found[name].get(inner)}, not {wanted[name].get(inner)}"
        if name in ("train_cases", "validation_cases"):
            return f"{name} are others"
        return f"{name} is {found[name]}, not {wanted[name]}"
    return None
