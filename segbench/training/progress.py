"""The state of an unfinished training: saved after every epoch, enough for an exact resume.

There is no random state in it: whatever is random is a pure function of (seed, epoch, case).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segbench.atomic import read_whole, shown, write_atomically
from segbench.errors import UserError
from segbench.plugins.tensor_bytes import tensor_bytes
from segbench.training.card import EpochScore, Settings
from segbench.training.weight_files import load_tensors

_VERSION = 2  # 1 had no checksum, and was of trainings that are long done
_CHECKSUM = "sha256"


@dataclass
class Progress:
    """How far a training is; empty at the start.

    Attributes:
        history: one score per finished epoch.
        weights: the network's state dict after the last of them.
        optimizer: the optimizer's state dict.
        best_epoch: counted from 1; 0 before the first that counts.
        best: the network's state dict after that epoch.
        contents: ``Case.sha256`` of the cases that were read, by case id.
        replaces: SHA-256 of the card's file that ``force`` replaces with it, "" where there was
            none; None of a training that was not forced.
    """

    history: list[EpochScore] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    replaces: str | None = None

    @property
    def best_jaccard(self) -> float | None:
        """The validation score of the best epoch, where something was held out."""
        return self.history[self.best_epoch - 1].jaccard if self.best_epoch else None


def save_progress(path: Path, settings: Settings, progress: Progress) -> None:
    """Replace the file in one step; a kill at any moment leaves the old or the new state.

    Raises:
        MachineError: the file cannot be written.
    """
    state = {
        "version": _VERSION,
        "settings": settings.model_dump_json(),
        "history": json.dumps([score.model_dump() for score in progress.history]),
        "weights": progress.weights,
        "optimizer": progress.optimizer,
        "best_epoch": progress.best_epoch,
        "best": progress.best,
        "contents": json.dumps(progress.contents),
        "replaces": progress.replaces,
    }
    content = io.BytesIO()
    torch.save(state | {_CHECKSUM: _checksum(state)}, content)
    write_atomically(path, content.getvalue())


def load_progress(path: Path) -> tuple[Settings, Progress]:
    """The state that was saved last, on the CPU; read without unpickling code.

    Raises:
        UserError: the file is damaged or of another version.
    """
    return read_whole(path, lambda: _load(path))


def _load(path: Path) -> tuple[Settings, Progress]:
    try:
        content = load_tensors(path)
        if content["version"] != _VERSION:
            raise ValueError(f"its version is {content['version']}, not {_VERSION}")
        if content.pop(_CHECKSUM, None) != _checksum(content):
            raise ValueError("its checksum is not that of its content")
        settings = Settings.model_validate_json(content["settings"])
        history = [EpochScore.model_validate(s) for s in json.loads(content["history"])]
        progress = Progress(
            history,
            content["weights"],
            content["optimizer"],
            content["best_epoch"],
            content["best"],
            json.loads(content.get("contents", "{}")),  # older states have neither
            content.get("replaces"),
        )
    except Exception as error:  # torch's reader fails in any way at all on foreign bytes
        raise UserError(
            f"the unfinished training {shown(path)} cannot be read ({type(error).__name__}); "
            "--force starts it over"
        ) from error
    return settings, progress


def _checksum(state: Any) -> str:
    """SHA-256 of tensors and plain values in mappings and lists; torch's files have none."""
    found = hashlib.sha256()
    _feed(found.update, state)
    return found.hexdigest()


def _feed(update: Callable[[bytes], object], value: Any) -> None:
    if isinstance(value, Tensor):
        update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        update(tensor_bytes(value))
    elif isinstance(value, Mapping):
        update(f"{len(value)} pairs\n".encode())
        for key in sorted(value, key=repr):
            update(f"{key!r}\n".encode())
            _feed(update, value[key])
    elif isinstance(value, list | tuple):
        update(f"{len(value)} items\n".encode())
        for item in value:
            _feed(update, item)
    else:
        update(f"{value!r}\n".encode())
