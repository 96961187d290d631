"""Networks named by text: found by ``resolve_models``, loaded when their data is there."""

from segbench.networks.archive import ArchiveReference
from segbench.networks.combined import CombinedReference
from segbench.networks.foreign import ForeignReference
from segbench.networks.hashes import source_hash, state_hash
from segbench.networks.loaded import LoadedModel, ModelReference
from segbench.networks.resolve import data_of, resolve_models, trained_within
from segbench.networks.trained import CheckpointReference

__all__ = [
    "ArchiveReference",
    "CheckpointReference",
    "CombinedReference",
    "ForeignReference",
    "LoadedModel",
    "ModelReference",
    "data_of",
    "resolve_models",
    "source_hash",
    "state_hash",
    "trained_within",
]
