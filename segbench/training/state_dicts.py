"""The state dict that fits a network, wherever in a checkpoint it lies and whatever its prefix.

People save a state dict, or a map that has one beside epochs and optimisers, or the network itself;
names begin with ``module.`` or ``model.``; profilers leave counters. Taken is what fits exactly. If
several do, it cannot be known which is meant, but for the conventional names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segbench.errors import UserError
from segbench.training.inert import Checkpoint, Inert, Stored, parts_of

_CONVENTIONAL = (
    "", "state_dict", "model_state_dict", "network_weights", "model_state", "model", "network",
    "net", "weights",
)  # fmt: skip
_BOOKKEEPING = ("total_ops", "total_params", "num_batches_tracked", "position_ids")
_DEPTH = 8  # of maps in maps


@dataclass(frozen=True, eq=False)
class StateDict:
    """Tensors by name, and the key that leads to them; "" for the whole file."""

    key: str
    tensors: Mapping[str, Tensor | Stored]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Tensors under the network's own names.

    Attributes:
        prefix: what was taken from the file's names; with ``+`` before it, added to them.
        ignored: names of the file that the network has no place for.
    """

    source: StateDict
    tensors: Mapping[str, Tensor | Stored]
    prefix: str
    ignored: tuple[str, ...]


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network, which is all tensors, as weights files are.

    Raises:
        UserError: a layer keeps something else beside them.
    """
    state: dict[str, Any] = network.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"the network keeps {name}, of type {type(value).__name__}, beside its tensors "
                "(get_extra_state), which no weights file here can hold"
            )
    return state


def find_state_dicts(content: Any) -> list[StateDict]:
    """Every map of tensors, and every saved network, in what a file holds; the outer ones first."""
    return list(_within(content, "", set()))


def fit_names(found: StateDict, expected: Mapping[str, Tensor]) -> list[Fitted]:
    """Each way in which names, less or more a prefix, are the network's, with its shapes."""
    fits = []
    for prefix in _prefixes(found.tensors, expected):
        renamed = _renamed(found.tensors, prefix)
        lacking = [name for name in expected.keys() - renamed.keys() if not _is_counter(name)]
        alike = all(
            tuple(renamed[name].shape if isinstance(renamed[name], Tensor) else renamed[name].size)
            == tuple(expected[name].shape)
            for name in expected.keys() & renamed.keys()
        )
        extra = tuple(sorted(renamed.keys() - expected.keys()))
        if lacking or not alike or (not prefix and any(not _is_counter(name) for name in extra)):
            continue
        outside = sorted(found.tensors.keys() - {f"{prefix}{name}" for name in renamed})
        if prefix.startswith("+"):
            outside = []
        if all(_is_counter(name) for name in extra):
            kept = {name: renamed[name] for name in expected.keys() & renamed.keys()}
            fits.append(Fitted(found, kept, prefix, (*extra, *outside)))
    return fits


def conventional_first(fits: list[Fitted]) -> list[Fitted]:
    """The same, those under a usual key before others."""

    def rank(fitted: Fitted) -> int:
        last = fitted.source.key.rpartition(".")[2]
        return _CONVENTIONAL.index(last) if last in _CONVENTIONAL else len(_CONVENTIONAL)

    return sorted(fits, key=rank)


def same_numbers(a: Fitted, b: Fitted, checkpoint: Checkpoint | None) -> bool:
    """Whether two state dicts hold the same numbers under the same names."""
    if a.tensors.keys() != b.tensors.keys():
        return False
    return all(
        torch.equal(as_tensor(a.tensors[name], checkpoint), as_tensor(b.tensors[name], checkpoint))
        for name in a.tensors
    )


def as_tensor(value: Tensor | Stored, checkpoint: Checkpoint | None) -> Tensor:
    """The tensor itself."""
    if isinstance(value, Tensor):
        return value
    assert checkpoint is not None
    return checkpoint.tensor(value)


def _within(value: Any, key: str, seen: set[int]) -> Iterator[StateDict]:
    if id(value) in seen or key.count(".") > _DEPTH:
        return
    seen.add(id(value))
    if isinstance(value, Inert) and _is_network(value):
        yield StateDict(key, dict(_of_network(value, "", _DEPTH * 4)))
        return
    parts = list(parts_of(value))
    tensors = {name: part for name, part in parts if isinstance(part, (Tensor, Stored))}
    if tensors:
        yield StateDict(key, tensors)
    for name, part in parts:
        if isinstance(part, (dict, list, tuple, Inert)):
            yield from _within(part, f"{key}.{name}" if key else name, seen)


def _is_network(value: Inert) -> bool:
    return isinstance(value.state, dict) and {"_parameters", "_modules"} <= value.state.keys()


def _of_network(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, Tensor | Stored]]:
    """The state dict of a network that was saved as an object."""
    if depth < 0 or not (isinstance(value, Inert) and _is_network(value)):
        return
    unsaved = value.state.get("_non_persistent_buffers_set")
    for held in ("_parameters", "_buffers"):
        for name, part in parts_of(value.state.get(held)):
            skipped = isinstance(unsaved, (set, list)) and name in unsaved
            if isinstance(part, (Tensor, Stored)) and not skipped:
                yield f"{prefix}{name}", part
    for name, part in parts_of(value.state["_modules"]):
        yield from _of_network(part, f"{prefix}{name}.", depth - 1)


def _prefixes(given: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Every prefix that could make the names agree; ``+p`` where it must be added."""
    wanted = [name for name in expected if not _is_counter(name)]
    if not wanted:
        return [""]
    longest = max(wanted, key=lambda name: (name.count("."), len(name)))
    taken = {name.removesuffix(longest) for name in given if name.endswith(longest)}
    own = [name for name in given if not _is_counter(name)]
    if own:
        theirs = max(own, key=lambda name: (name.count("."), len(name)))
        taken |= {f"+{n.removesuffix(theirs)}" for n in wanted if n.endswith(theirs)} - {"+"}
    return sorted(p for p in taken if p in ("", "+") or p.endswith("."))


def _renamed(given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    if prefix.startswith("+"):
        return {f"{prefix[1:]}{name}": value for name, value in given.items()}
    return {
        name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)
    }


def _is_counter(name: str) -> bool:
    """Whether a tensor only counts batches or operations, which no answer depends on."""
    return name.rpartition(".")[2] in _BOOKKEEPING
