"""Networks that another library saved, named ``kind:PATH[,key=value]``: ``nnunet:DIR,folds=0+1``.

They go through the same door as any other. Files are read by readers that run nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.errors import UserError
from segbench.networks.wishes import NO_WISHES, Wishes
from segbench.plugins.registry import suggest

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.networks.loaded import LoadedModel

Importer = Callable[[Path, Mapping[str, str], "Dataset", Wishes], "LoadedModel"]
"""(path, options, data set, what the user says) -> the network."""

KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "hf": ("segbench.networks.huggingface", ("prompt", "jitter", "points")),
    "monai-bundle": ("segbench.networks.bundles", ("config", "skip")),
    "onnx": ("segbench.networks.onnx", ()),
    "smp": ("segbench.networks.smp", ()),
    "nnunet": ("segbench.networks.nnunet", ("configuration", "folds", "checkpoint")),
}
"""Kind -> the module whose ``load`` imports it, and the options that it takes."""


@dataclass(frozen=True)
class ImportedReference:
    """A network that another library saved."""

    kind: str
    path: Path
    options: tuple[tuple[str, str], ...] = ()
    wishes: Wishes = NO_WISHES
    alias: str = ""

    @property
    def name(self) -> str:
        """For example ``nnunet:Dataset004_X,folds=0``; see ``names.py``."""
        said = "".join(f",{key}={value}" for key, value in self.options)
        return self.alias or f"{self.kind}:{self.path.resolve().name}{said}"

    @property
    def text(self) -> str:
        """As ``-m`` takes it."""
        said = "".join(f",{key}={value}" for key, value in self.options)
        return f"{self.kind}:{self.path}{said}"

    def load(self, dataset: Dataset) -> LoadedModel:
        """Read it.

        Raises:
            UserError: it cannot be read, or does not fit the data set.
        """
        load: Importer = import_module(KINDS[self.kind][0]).load
        return load(self.path, dict(self.options), dataset, self.wishes)


def read_import(text: str, wishes: Wishes = NO_WISHES) -> ImportedReference | None:
    """The network that a text names; None where it is no import.

    A registered model may have a kind's name: ``nnunet:width=8`` is one of its specs.

    Raises:
        UserError: the path is not there, or an option is unknown.
    """
    kind, colon, rest = text.partition(":")
    if kind not in KINDS or not colon or not rest:
        return None
    path, *parts = rest.split(",")
    if "=" in path and not Path(path).exists():
        return None
    if not Path(path).exists():
        raise UserError(f"model {text!r}: {path} does not exist")
    valid = KINDS[kind][1]
    options = []
    for part in parts:
        key, equals, value = part.partition("=")
        if key not in valid or not equals or not value:
            listed = ", ".join(valid) or "none"
            raise UserError(
                f"model {text!r} has no option {part!r}{suggest(key, valid)} (valid: {listed})"
            )
        options.append((key, value))
    return ImportedReference(kind, Path(path), tuple(options), wishes)


def refuse_wishes(kind: str, wishes: Wishes) -> None:
    """UserError for options of a network whose file says the same itself."""
    for option, value in wishes.given().items():
        raise UserError(
            f"{option} {value!r} is not for {kind} networks: their files say what they expect and "
            "answer; leave it out"
        )
