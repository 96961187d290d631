"""Names that tell the networks of one command apart: tables know a network by nothing else.

A network is called after its file, factory or folder. Where two would be called the same, what
lies in different places gets as much of its path as it takes (``a/net:build``, ``b/net:build``),
and one factory with several weights files those (``net:build (w1.pt)``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from segbench.networks.archive import ArchiveReference
from segbench.networks.combined import CombinedReference
from segbench.networks.foreign import ForeignReference
from segbench.networks.fronted import FrontedReference
from segbench.networks.imported import ImportedReference
from segbench.networks.loaded import ModelReference
from segbench.networks.trained import CheckpointReference

Named = (
    ArchiveReference
    | CheckpointReference
    | ForeignReference
    | ImportedReference
    | CombinedReference
    | FrontedReference
)
Identity = tuple[Path, Path | None]
"""Where a network lies, and its weights where they lie elsewhere."""


def tell_apart(references: Sequence[Named]) -> list[ModelReference]:
    """The same networks, each once and under a name of its own."""
    found: dict[tuple[str, Identity], Named] = {}
    for reference in references:
        found.setdefault((reference.name, _identity(reference)), reference)
    sharing: dict[str, list[Identity]] = defaultdict(list)
    for name, identity in found:
        sharing[name].append(identity)
    return [
        replace(reference, alias=_name(name, identity, sharing[name]))
        if len(sharing[name]) > 1
        else reference
        for (name, identity), reference in found.items()
    ]


def _identity(reference: Named) -> Identity:
    if isinstance(reference, CheckpointReference):
        return reference.folder.resolve(), None
    if isinstance(reference, (ArchiveReference, ImportedReference)):
        return reference.path.resolve(), None
    if isinstance(reference, (CombinedReference, FrontedReference)):
        return Path(reference.name), None
    path, weights = reference.own.path, reference.weights
    place = path.resolve() if path else Path(reference.module)
    return place, weights.resolve() if weights else None


def _name(name: str, identity: Identity, sharing: Sequence[Identity]) -> str:
    """A name that only this one of those that share it has."""
    place, weights = identity
    folders = _shortest({other: other.parent for other, _ in sharing})
    name = f"{folders[place]}/{name}" if len(folders) > 1 else name
    files = _shortest({other: other for at, other in sharing if at == place and other})
    alone = sum(at == place for at, _ in sharing) == 1
    return name if alone or weights is None else f"{name} ({files[weights]})"


def _shortest(paths: Mapping[Path, Path]) -> dict[Path, str]:
    """The end of each path, as short as tells all of them apart."""
    parts = {key: _parts(path) for key, path in paths.items()}
    longest = max(map(len, parts.values()), default=0)
    count = 1
    while count < longest and len({ends[-count:] for ends in parts.values()}) < len(parts):
        count += 1
    return {key: "/".join(ends[-count:]) for key, ends in parts.items()}


def _parts(path: Path) -> tuple[str, ...]:
    """The folders of a path, its root left out."""
    return path.relative_to(path.anchor).parts
