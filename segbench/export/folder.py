"""The folder of an exported network: its files, and that nothing else is lost for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.atomic import read_regular, write_atomically
from segbench.errors import UserError
from segbench.training.card import CARD_FILE

DESCRIPTION = "model_card.json"
WEIGHTS = "model.safetensors"
BUNDLE_WEIGHTS = "models/model.pt"
BUNDLE_CONFIG = "configs/inference.json"
BUNDLE_METADATA = "configs/metadata.json"
_WRITTEN = (CARD_FILE, WEIGHTS, DESCRIPTION, BUNDLE_WEIGHTS, BUNDLE_CONFIG, BUNDLE_METADATA)


def refuse_others(folder: Path, weights_sha256: str) -> None:
    """Refuse a folder with a network in it, unless it is an earlier export of these very weights.

    Raises:
        UserError: a checkpoint, a bundle or other weights lie there.
    """
    there = [name for name in _WRITTEN if (folder / name).exists()]
    if not there or _exported(folder) == weights_sha256:
        return
    what = "is a checkpoint" if there[0] == CARD_FILE else f"holds {there[0]} of another network"
    raise UserError(f"--out {folder} {what}, which would be overwritten; name another folder")


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """The files, each under its name within the folder.

    Raises:
        MachineError: they cannot be written.
    """
    written = []
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        written.append(path)
    return written


def as_json(content: Mapping[str, Any]) -> bytes:
    """As it is written."""
    return (json.dumps(content, indent=2, default=str) + "\n").encode()


def _exported(folder: Path) -> str:
    """The weights that an earlier export says are there; "" for none."""
    try:
        found = json.loads(read_regular(folder / DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(found.get("weights_sha256", "")) if isinstance(found, dict) else ""
