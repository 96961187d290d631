"""A network of the user's own in a file that holds its code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.atomic import read_regular
from segbench.errors import UserError
from segbench.networks.loaded import LoadedModel
from segbench.networks.own import own_model
from segbench.networks.wishes import NO_WISHES, Wishes

if TYPE_CHECKING:
    from segbench.api import Dataset

ENDINGS = (".pt", ".pth", ".ts", ".torchscript", ".pt2")


@dataclass(frozen=True)
class ArchiveReference:
    """A TorchScript or torch.export file."""

    path: Path
    wishes: Wishes = NO_WISHES
    alias: str = ""

    @property
    def name(self) -> str:
        """The file's name; see ``names.py``."""
        return self.alias or self.path.name

    @property
    def module(self) -> str:
        """What of the user's runs here."""
        return str(self.path)

    def load(self, dataset: Dataset) -> LoadedModel:
        """The network in the file; its bytes are its source and its weights."""
        from segbench.networks.scripted import load_archive

        try:
            content = read_regular(self.path)  # once: what is hashed is what is loaded
        except OSError as error:
            raise UserError(
                f"model {self.path} cannot be read: {error.strerror or error}"
            ) from None
        network = load_archive(content, self.path)
        digest = hashlib.sha256(content).hexdigest()
        return own_model(network, digest, dataset, self.wishes, exact=True)


def is_archive(text: str) -> bool:
    """Whether a TorchScript or torch.export file is meant, there or not, and no spec that ends so.

    ``nnunet:weights=old.pt`` is such a spec.
    """
    return text.endswith(ENDINGS) and (":" not in text or Path(text).is_file())
