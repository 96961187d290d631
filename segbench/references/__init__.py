"""Networks named by text: found by ``resolve_models``, loaded when their data is there."""

from segbench.references.archive import ArchiveReference
from segbench.references.foreign import ForeignReference
from segbench.references.hashes import source_hash, state_hash
from segbench.references.loaded import LoadedModel, ModelReference
from segbench.references.resolve import resolve_models
from segbench.references.trained import CheckpointReference

__all__ = [
    "ArchiveReference",
    "CheckpointReference",
    "ForeignReference",
    "LoadedModel",
    "ModelReference",
    "resolve_models",
    "source_hash",
    "state_hash",
]
