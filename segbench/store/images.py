"""Adversarial images that are kept: float32, whole files of at most 32 cases, never changed.

<workspace>/adversarial/<cell key>/
    cell.json                          what they are images of: model, data, attack, budget
    <run>-<cases>.safetensors          images of one shape, what each of them cost, and the labels
                                       that the network gave to it and to its clean image

The key holds nothing that only scoring needs, and a case is known by its content: images are found
again whichever cases are asked for, and whatever is to be measured on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.atomic import shown
from segbench.errors import UserError
from segbench.store.records import digest, read_record, write_record
from segbench.store.tensors import damaged, load_tensors, read_facts, save_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from segbench.store.workspace import Workspace

RECORD = "cell.json"
_SUFFIX = ".safetensors"
_TENSORS = ("images", "forwards", "backwards", "seconds", "zero_gradients")
_MOVES, _LATE = "displacement", "late_gain"
_LABELS = ("labels", "clean_labels")
_NAMES = ("contents", "case_ids", "members", "precisions", "gradient_checks")


@dataclass(frozen=True, eq=False)
class Attacked:
    """Adversarial images of some cases and what they cost.

    Attributes:
        contents: ``Case.sha256`` of each case.
        images: float32 (B, C, *spatial) in [0, 1].
        forwards: per case (B,), as are ``backwards`` and ``seconds``.
        zero_gradients: the share (B,) of its gradients that were zero in every pixel; NaN of none.
        precisions: of the gradients that made each of them.
        marks: why the network that made them may not be trusted.
        gradient_checks: of each case how gradients of lower precision compare with those of fp32;
            "" where there were none such. () of older files that do not say.
        displacement: (B, dims, *spatial) in pixels, by which image and truth were moved, or None.
        late_gain: (B,), see ``engine.outcome.Outcome``; None of older files.
        members: which member of a suite found each; "" where it was no suite. () of older files.
        labels: what the network made of the images, (B, *spatial) or (B, S, *spatial) for
            structures; None where that was not asked for.
        clean_labels: the same of the clean images.
    """

    contents: tuple[str, ...]
    case_ids: tuple[str, ...]
    images: Tensor
    forwards: Tensor
    backwards: Tensor
    seconds: Tensor
    zero_gradients: Tensor
    precisions: tuple[str, ...]
    marks: tuple[str, ...] = ()
    gradient_checks: tuple[str, ...] = ()
    displacement: Tensor | None = None
    late_gain: Tensor | None = None
    members: tuple[str, ...] = ()
    labels: Tensor | None = None
    clean_labels: Tensor | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What it has of each case, by name."""
        found = {name: getattr(self, name) for name in (*_TENSORS, _MOVES, _LATE, *_LABELS)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @property
    def _names(self) -> dict[str, tuple[str, ...]]:
        """What each case is called, by attribute; those that an older file lacks are left out."""
        return {name: getattr(self, name) for name in _NAMES if getattr(self, name)}

    def part(self, start: int, stop: int) -> Attacked:
        """The cases from ``start`` up to ``stop``."""
        return self.pick(range(len(self.contents))[start:stop])

    def pick(self, places: Sequence[int]) -> Attacked:
        """The cases at those places, in that order."""
        import torch

        index = torch.as_tensor(list(places))
        changes: dict[str, Any] = {
            **{name: tuple(own[p] for p in places) for name, own in self._names.items()},
            **{name: tensor[index.to(tensor.device)] for name, tensor in self.tensors.items()},
        }
        return replace(self, **changes)


def join(parts: Sequence[Attacked]) -> Attacked:
    """Images of one shape, made by one network, as one."""
    import torch

    if len(parts) == 1:
        return parts[0]
    changes: dict[str, Any] = {
        **{name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors},
        **{name: tuple(n for p in parts for n in getattr(p, name)) for name in _NAMES},
    }
    return replace(parts[0], **changes)


def keep_images(
    workspace: Workspace, key: str, run: int, record: Mapping[str, Any], attacked: Attacked
) -> None:
    """Write the images of some cases, and before the first of a cell what they are images of.

    Raises:
        MachineError: the disk refused; nothing half-written is left behind.
    """
    folder = workspace.adversarial / key
    if not (folder / RECORD).exists():
        write_record(folder / RECORD, record)
    facts = {
        "contents": json.dumps(attacked.contents),
        "case_ids": json.dumps(attacked.case_ids),
        "members": json.dumps(attacked.members),
        "precisions": json.dumps(attacked.precisions),
        "marks": " ".join(attacked.marks),
        "gradient_checks": json.dumps(attacked.gradient_checks),
    }
    tensors = attacked.tensors
    name = digest({"contents": attacked.contents})[:16]
    save_tensors(folder / f"{run}-{name}{_SUFFIX}", tensors, facts)


def kept_cases(workspace: Workspace, key: str) -> dict[str, Path]:
    """``Case.sha256`` of every case whose images are kept, with the file of the latest run."""
    found: dict[str, Path] = {}
    workspace.refresh(workspace.adversarial / key)
    for path in sorted((workspace.adversarial / key).glob(f"[0-9]*-*{_SUFFIX}"), key=_age):
        try:
            found |= dict.fromkeys(json.loads(read_facts(path).get("contents", "[]")), path)
        except (ValueError, TypeError):
            continue  # whoever loads it is told
    return found


def load_images(path: Path, contents: Sequence[str] | None = None) -> Attacked:
    """The images of a file, or of some of its cases, on the CPU.

    Raises:
        UserError: the file is damaged, gone, not one of ours, or lacks a case.
        MachineError: it may not be read.
    """
    loaded = load_tensors(path)
    if loaded is None:
        raise damaged(path, "it is gone")
    tensors, facts = loaded
    try:
        held = tuple(json.loads(facts["contents"]))
        whole = Attacked(
            contents=held,
            case_ids=tuple(json.loads(facts["case_ids"])),
            images=tensors["images"],
            forwards=tensors["forwards"],
            backwards=tensors["backwards"],
            seconds=tensors["seconds"],
            zero_gradients=tensors["zero_gradients"],
            precisions=_of_each(facts, "precision", len(held)),
            marks=tuple(facts["marks"].split()),
            gradient_checks=_of_each(facts, "gradient_check", len(held)),
            displacement=tensors.get(_MOVES),
            late_gain=tensors.get(_LATE),
            members=tuple(json.loads(facts.get("members", "[]"))),
            **{name: tensors.get(name) for name in _LABELS},
        )
        places = {content: place for place, content in enumerate(held)}
        return whole if contents is None else whole.pick([places[c] for c in contents])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"it does not hold those images: {type(error).__name__}") from None


def _of_each(facts: Mapping[str, str], name: str, cases: int) -> tuple[str, ...]:
    """What a file says of each case; an older one says it once, of all of them."""
    if f"{name}s" in facts:
        return tuple(json.loads(facts[f"{name}s"]))
    return (facts[name] if name == "precision" else facts.get(name, ""),) * cases


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
    names = [field.name for field in fields(KeptCell) if field.name != "key"]
    found = []
    workspace.refresh(workspace.adversarial, deep=True, only=RECORD)
    for path in sorted(workspace.adversarial.glob(f"*/{RECORD}")):
        record = read_record(path) or {}
        if not all(name in record for name in names):
            raise UserError(
                f"{shown(path)} is not the record of a cell; delete its folder and run the same "
                "command again"
            )
        found.append(KeptCell(key=path.parent.name, **{name: record[name] for name in names}))
    return sorted(found, key=lambda c: (c.model, c.dataset, c.attack, c.budget, c.seed, c.key))


def latest_cases(
    workspace: Workspace, cells: Sequence[KeptCell]
) -> tuple[dict[str, dict[str, Path]], int]:
    """Key of each cell -> ``Case.sha256`` of its cases -> the file of their images.

    Of cells that differ in nothing but their keys, such as one before and after its attack was
    edited, a case is that one's which attacked it last.

    Returns:
        the files, and how many older images of the same cases there are beside them.
    """
    found: dict[str, dict[str, Path]] = {}
    latest: dict[tuple[KeptCell, str], tuple[tuple[int, str], str]] = {}
    for cell in cells:
        found[cell.key] = kept_cases(workspace, cell.key)
        for content, path in found[cell.key].items():
            of = replace(cell, key=""), content
            latest[of] = max(latest.get(of, ((-2, ""), "")), (_age(path), cell.key))
    keys: dict[str, set[str]] = {}
    for (_, content), (_, key) in latest.items():
        keys.setdefault(key, set()).add(content)
    images = {
        key: {content: path for content, path in own.items() if content in keys.get(key, ())}
        for key, own in found.items()
    }
    return images, sum(map(len, found.values())) - len(latest)


def _age(path: Path) -> tuple[int, str]:
    """The run it is of; a file of another kind is the oldest."""
    run = path.name.partition("-")[0]
    return (int(run) if run.isdecimal() else -1, path.name)
