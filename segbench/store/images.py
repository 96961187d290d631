"""Adversarial images that are kept: float32, one file per shard of a cell, written once.

<workspace>/adversarial/<cell key>/
    cell.json               what they are images of: model, data, attack, budget
    <shard>.safetensors     at most 32 images of one shape, with what each of them cost

Files appear whole or not at all, so a killed run goes on from what is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.atomic import write_atomically
from segbench.errors import MachineError, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from segbench.store.workspace import Workspace

RECORD = "cell.json"
_SUFFIX = ".safetensors"
_TENSORS = ("images", "forwards", "backwards", "seconds")


@dataclass(frozen=True, eq=False)
class Attacked:
    """Adversarial images of some cases and what they cost.

    Attributes:
        images: float32 (B, C, *spatial) in [0, 1].
        forwards: per case (B,), as are ``backwards`` and ``seconds``.
        precision: of the gradients that made them.
        marks: why the network that made them may not be trusted.
    """

    case_ids: tuple[str, ...]
    images: Tensor
    forwards: Tensor
    backwards: Tensor
    seconds: Tensor
    precision: str
    marks: tuple[str, ...] = ()

    def part(self, start: int, stop: int) -> Attacked:
        """The cases from ``start`` up to ``stop``."""
        chosen = {name: getattr(self, name)[start:stop] for name in ("case_ids", *_TENSORS)}
        return Attacked(**chosen, precision=self.precision, marks=self.marks)


def join(parts: Sequence[Attacked]) -> Attacked:
    """The batches of one shard as one."""
    import torch

    if len(parts) == 1:
        return parts[0]
    tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
    names = tuple(case for part in parts for case in part.case_ids)
    return Attacked(names, **tensors, precision=parts[0].precision, marks=parts[0].marks)


def keep_images(
    workspace: Workspace, key: str, shard: int, record: Mapping[str, Any], attacked: Attacked
) -> None:
    """Write the images of a shard, and before the first of a cell what they are images of.

    Raises:
        MachineError: the disk refused; nothing half-written is left behind.
    """
    from safetensors.torch import save

    folder = workspace.adversarial / key
    if not (folder / RECORD).exists():
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        write_atomically(folder / RECORD, text.encode())
    facts = {
        "case_ids": json.dumps(attacked.case_ids),
        "precision": attacked.precision,
        "marks": " ".join(attacked.marks),
    }
    tensors = {name: getattr(attacked, name).cpu().contiguous() for name in _TENSORS}
    write_atomically(folder / f"{shard}{_SUFFIX}", save(tensors, facts))


def load_images(workspace: Workspace, key: str, shard: int) -> Attacked | None:
    """The images of a shard, on the CPU; None where they have not been kept.

    Raises:
        UserError: the file is damaged or not one of ours.
        MachineError: it may not be read.
    """
    from safetensors import SafetensorError, safe_open

    path = workspace.adversarial / key / f"{shard}{_SUFFIX}"
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        names = tuple(json.loads(facts["case_ids"]))
        return Attacked(names, **tensors, precision=facts["precision"],
                        marks=tuple(facts["marks"].split()))  # fmt: skip
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not hold adversarial images ({type(error).__name__}: {error}); "
            "delete it and run the same command again"
        ) from None


def kept_shards(workspace: Workspace) -> set[tuple[str, int]]:
    """(cell key, shard number) of all images that need not be made again."""
    return {
        (path.parent.name, int(path.stem))
        for path in workspace.adversarial.glob(f"*/*{_SUFFIX}")
        if path.stem.isdecimal()
    }


@dataclass(frozen=True)
class KeptCell:
    """A cell whose images are kept, as its ``cell.json`` says; ``key`` is its folder."""

    key: str
    model: str
    weights_sha256: str
    dataset: str
    dataset_fingerprint: str
    split: str
    attack: str
    attack_params: str
    budget_kind: str
    budget: float
    seed: int


def kept_cells(workspace: Workspace) -> list[KeptCell]:
    """Every cell with kept images, sorted by model, data, attack and budget.

    Raises:
        UserError: a record is damaged.
    """
    found = []
    for path in sorted(workspace.adversarial.glob(f"*/{RECORD}")):
        names = [field.name for field in fields(KeptCell) if field.name != "key"]
        found.append(KeptCell(key=path.parent.name, **_record(path, names)))
    return sorted(found, key=lambda c: (c.model, c.dataset, c.attack, c.budget, c.seed, c.key))


def shards_of(workspace: Workspace, cell: KeptCell) -> list[int]:
    """The numbers of a cell's kept shards, in order."""
    return sorted(number for key, number in kept_shards(workspace) if key == cell.key)


def _record(path: Path, names: Sequence[str]) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        return {name: record[name] for name in names}
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is not the record of a cell; delete its folder and run the same command again"
        ) from None
