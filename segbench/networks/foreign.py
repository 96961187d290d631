"""A network of the user's own, built by a factory in a module or a file of theirs."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.errors import MachineError, UserError
from segbench.networks.channels import Channels, channels_seen
from segbench.networks.hashes import source_hash
from segbench.networks.loaded import LoadedModel
from segbench.networks.own import own_model, wanted_images
from segbench.networks.siblings import importable
from segbench.plugins import registry

if TYPE_CHECKING:
    from torch import nn

    from segbench.api import Dataset

_FOREIGN = re.compile(r"(?P<module>.+\.py|[A-Za-z_][\w.]*):(?P<factory>[A-Za-z_]\w*)")


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
        from segbench.training.weights import load_weights

        with importable(self._folder) as siblings:
            factory = self._find_factory()
            network = self._build(factory, dataset)
            source = source_hash(network, *_file_of(factory), *siblings())
        if self.weights:
            load_weights(network, self.weights)
        wanted = wanted_images(self.normalize, self.channels, dataset)
        return own_model(network, source, wanted, exact=False)

    @property
    def _folder(self) -> Path:
        """Whose modules may be imported: those beside the file, or of the working directory."""
        return Path(self.module).parent if self.module.endswith(".py") else Path()

    def _build(self, factory: Callable[..., Any], dataset: Dataset) -> nn.Module:
        from torch import nn

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
        return network

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


def is_factory(text: str) -> bool:
    """Whether a factory is meant, and no spec with parameters."""
    return _FOREIGN.fullmatch(text) is not None and "=" not in text


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


def _file_of(factory: Callable[..., Any]) -> list[Path]:
    """The file of the factory, which alone may say how layers of torch's own are put together."""
    try:
        return [Path(inspect.getfile(inspect.unwrap(factory)))]
    except (TypeError, OSError):
        return []  # a callable object, or made at run time


def _accepted(factory: Callable[..., Any], sizes: dict[str, int]) -> dict[str, int]:
    """Those of the sizes that the factory has a parameter for."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return sizes
    return {name: sizes[name] for name in sizes if name in {p.name for p in parameters}}
