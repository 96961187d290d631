"""What ``-m`` means: a trained spec, a checkpoint folder, or a network of the user's own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from segbench import registry, spec
from segbench.card import CARD_FILE, Card, find_checkpoints, load_card
from segbench.channels import Channels, channels_seen
from segbench.errors import MachineError, UserError
from segbench.normalize import Normalization, parse_normalization

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset

ARCHIVES = (".pt", ".pth", ".ts", ".torchscript", ".pt2")
_FOREIGN = re.compile(r"(?P<module>.+\.py|[A-Za-z_][\w.]*):(?P<factory>[A-Za-z_]\w*)")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network and the facts that determine its answers (part of every cell's key).

    Attributes:
        own: whether it is the user's own: how it wants its images and what it answers is found out
            when the images are there (``own_network.py``).
        normalization: what ``--normalize`` and ``--channels`` say of it.
        exact: whether its gradients must be fp32.
    """

    module: nn.Module
    weights_sha256: str
    facts: dict[str, Any]
    own: bool = False
    normalization: Normalization | None = None
    exact: bool = False


class ModelReference(Protocol):
    """A network that has been found but not loaded."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def load(self, dataset: Dataset) -> LoadedModel:
        """Read the weights; UserError where they or the data set do not fit."""
        ...


@dataclass(frozen=True)
class CheckpointReference:
    """A checkpoint folder made by ``segbench train``."""

    folder: Path
    card: Card

    @property
    def name(self) -> str:
        """The folder's name, for example ``unet@jsrt#0``."""
        return self.folder.name

    def load(self, dataset: Dataset) -> LoadedModel:
        """The best weights, checked against the card and the data set."""
        from segbench.checkpoint import load_checkpoint

        card = self.card
        for fact, ours, theirs in (
            ("input channels", card.in_channels, dataset.in_channels),
            ("classes", card.num_classes, len(dataset.class_names)),
            ("spatial dimensions", card.spatial_dims, dataset.spatial_dims),
        ):
            if ours != theirs:
                raise UserError(
                    f"model {self.name} was trained for {ours} {fact}; the data set has {theirs}"
                )
        module, card = load_checkpoint(self.folder)
        facts = {"spec": card.model, "parameters": card.parameters, "source": source_hash(module)}
        return LoadedModel(module, card.weights_sha256, facts)


@dataclass(frozen=True)
class ForeignReference:
    """``module:factory`` or ``path.py:factory``, with a weights file or the factory's own."""

    text: str
    weights: Path | None = None
    normalize: str = ""
    channels: Channels | None = None
    module: str = field(init=False)
    factory: str = field(init=False)

    def __post_init__(self) -> None:
        match = _FOREIGN.fullmatch(self.text)
        assert match, self.text
        object.__setattr__(self, "module", match["module"])
        object.__setattr__(self, "factory", match["factory"])

    @property
    def name(self) -> str:
        """For example ``unet16:build`` for ``networks/unet16.py:build``."""
        stem = Path(self.module).stem if self.module.endswith(".py") else self.module
        return f"{stem}:{self.factory}"

    def load(self, dataset: Dataset) -> LoadedModel:
        """Call the factory with those of the data set's sizes that it takes, then load weights."""
        from torch import nn

        from segbench.weights import load_weights

        factory = self._find_factory()
        sizes = {
            "in_channels": channels_seen(self.channels, dataset.in_channels),
            "num_classes": len(dataset.class_names),
            "spatial_dims": dataset.spatial_dims,
        }
        try:
            network = factory(**_accepted(factory, sizes))
        except Exception as error:
            raise MachineError(
                f"the factory {self.text} failed: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(network, nn.Module):
            raise UserError(f"{self.text} returned {type(network).__name__}; expected a Module")
        if self.weights:
            load_weights(network, self.weights)
        wanted = _wanted(self.normalize, self.channels, dataset)
        return _own(network, self.name, source_hash(network), wanted, exact=False)

    def _find_factory(self) -> Callable[..., Any]:
        module = _import_file(Path(self.module)) if self.module.endswith(".py") else None
        if module is None:
            try:
                module = importlib.import_module(self.module)
            except Exception as error:
                raise UserError(
                    f"model {self.text!r}: the module {self.module} does not import: {error}"
                ) from error
        factory = getattr(module, self.factory, None)
        if not callable(factory):
            valid = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            hint = registry.suggest(self.factory, valid)
            raise UserError(f"{self.module} has no factory {self.factory!r}{hint}")
        return factory  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ArchiveReference:
    """A TorchScript or torch.export file."""

    path: Path
    normalize: str = ""
    channels: Channels | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def module(self) -> str:
        """What of the user's runs here."""
        return str(self.path)

    def load(self, dataset: Dataset) -> LoadedModel:
        """The network in the file; its bytes are its source and its weights."""
        from segbench.archives import load_archive

        network = load_archive(self.path)
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        wanted = _wanted(self.normalize, self.channels, dataset)
        return _own(network, self.name, digest, wanted, exact=True)


def _wanted(normalize: str, channels: Channels | None, dataset: Dataset) -> Normalization | None:
    """What ``--normalize`` and ``--channels`` say of a network; None if they are not given."""
    seen = channels_seen(channels, dataset.in_channels)
    wanted = parse_normalization(normalize, seen) if normalize else None
    return replace(wanted or Normalization(), channels=channels) if channels else wanted


def _own(
    network: nn.Module, name: str, source: str, wanted: Normalization | None, *, exact: bool
) -> LoadedModel:
    """A network of the user's own, with what it wants of its images."""
    facts = {"spec": name, "parameters": {}, "source": source}
    if wanted:
        facts["normalization"] = asdict(wanted)
    return LoadedModel(network, state_hash(network), facts, True, wanted, exact)


def resolve_models(
    texts: Sequence[str],
    workspace: Path,
    weights: Sequence[Path] = (),
    normalize: str = "",
    channels: Channels | None = None,
) -> list[ModelReference]:
    """The networks meant by ``-m`` texts; all checkpoints of the workspace if there are none.

    ``weights`` go, in order, to the networks of the user's own, and ``normalize`` and ``channels``
    to all of them.

    Raises:
        UserError: a text means nothing, or weights are left over.
    """
    if not texts and not weights:
        found = [CheckpointReference(f, load_card(f)) for f in find_checkpoints(workspace)]
        if not found:
            raise UserError(
                f"no trained network in {workspace / 'models'}; run segbench train first, "
                "or name one with -m"
            )
        return list(found)
    files = list(weights)
    references: list[ModelReference] = []
    for text in texts:
        if _is_folder(text):
            references.append(CheckpointReference(Path(text), load_card(Path(text))))
        elif _FOREIGN.fullmatch(text) and "=" not in text:
            file = files.pop(0) if files else None
            references.append(ForeignReference(text, file, normalize, channels))
        elif text.endswith(ARCHIVES) and Path(text).is_file():
            references.append(ArchiveReference(Path(text), normalize, channels))
        else:
            references += _trained(text, workspace)
    own = (ForeignReference, ArchiveReference)
    if not any(isinstance(reference, own) for reference in references):
        for option, value in (("--normalize", normalize), ("--channels", channels)):
            if value:
                raise UserError(
                    f"{option} {value!r} belongs to no network of your own; trained ones take "
                    "images as their data set has them"
                )
    if files:
        raise UserError(f"--weights {files[0]} belongs to no -m module:factory or path.py:factory")
    return references


def _is_folder(text: str) -> bool:
    """Whether a folder is meant; one that only shares its name with a registered model is not."""
    folder = Path(text)
    return folder.is_dir() and (
        (folder / CARD_FILE).exists() or text not in registry.names("models")
    )


def _trained(text: str, workspace: Path) -> list[ModelReference]:
    """Checkpoints of a registered spec, or the checkpoint of that very name."""
    folder = workspace / "models" / text
    if folder.is_dir():
        return [CheckpointReference(folder, load_card(folder))]
    parsed = spec.parse(text)
    found = [
        CheckpointReference(path, card)
        for path in find_checkpoints(workspace)
        if (card := load_card(path)).model == str(parsed)
    ]
    if found:
        return list(found)
    registry.load("models", parsed.name)  # an unknown name is the likelier mistake
    raise UserError(
        f"no trained checkpoint of {text!r} in {workspace / 'models'}; "
        f"run segbench train {text} first"
    )


def state_hash(network: nn.Module) -> str:
    """SHA-256 (hex) of all parameters and buffers, with their names, types and shapes."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes, since numpy has no bfloat16.
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def source_hash(network: nn.Module) -> str:
    """SHA-256 (hex) of the source files of all its layers' classes, torch's own left out."""
    classes = {type(layer) for layer in network.modules()}
    files = set()
    for kind in classes:
        if kind.__module__.partition(".")[0] != "torch":
            try:
                files.add(inspect.getfile(kind))
            except (TypeError, OSError):
                continue  # made at run time; its weights still count
    digest = hashlib.sha256()
    for content in sorted(hashlib.sha256(Path(f).read_bytes()).digest() for f in files):
        digest.update(content)
    return digest.hexdigest()


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"model file {path} does not exist")
    name = (
        f"segbench_user_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    )
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"model file {path} does not import: {error}") from error
    return module


def _accepted(factory: Callable[..., Any], sizes: dict[str, int]) -> dict[str, int]:
    """Those of the sizes that the factory has a parameter for."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return sizes
    return {name: sizes[name] for name in sizes if name in {p.name for p in parameters}}
