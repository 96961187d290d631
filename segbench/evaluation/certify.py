"""Certificates of cases: the votes of their draws, tested, and scored at the worst.

The network that is certified is the *smoothed* one, another than the one that is smoothed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.api import Case, Entry
from segbench.engine.network import Network
from segbench.errors import UserError
from segbench.evaluation.batch import Batch, collate
from segbench.evaluation.certificate import Smoothing, coarser_classes, held_by
from segbench.evaluation.draws import Draws
from segbench.evaluation.grid import Cell
from segbench.evaluation.request import DataSource
from segbench.evaluation.subject import Subject
from segbench.metrics.certificates import enough_votes, least_count, least_draws
from segbench.metrics.regions import worst_regions
from segbench.store.rows import ON_REQUEST

_NOT_MEASURED = ("linf", "l2", "zero_gradients", "late_gain", "target_jaccard")


def certify_case(draws: Draws, cell: Cell, case: Case) -> list[dict[str, Any]]:
    """The rows of a case, one per class: scores at the worst, and what was abstained from.

    Raises:
        UserError: the network answers with NaN, or there are too few draws for the case.
        MachineError: the disk refused the votes.
    """
    smoothing, network = cell.certificate, draws.network
    assert smoothing is not None
    begun, batch = time.perf_counter(), collate([case], network)
    known = _known(network, batch)
    require_draws(smoothing, int(known.sum()), f"case {case.case_id}")
    held = held_by(smoothing, ("no", "yes") if network.structures else case.class_names)
    votes = draws.votes(batch, cell.seed, smoothing.sigma, "choice", smoothing.n0)
    chosen = _choose(votes, held, smoothing, known)
    votes = draws.votes(batch, cell.seed, smoothing.sigma, "test", smoothing.n)
    agreed = _agreements(votes, held, chosen)
    certified = _certified(agreed, chosen, known, smoothing, len(held) - 1)
    seconds = time.perf_counter() - begun
    return _rows(network, batch, smoothing, held, certified, known, seconds)


def check_certificates(certificates: Sequence[Smoothing], subject: Subject) -> None:
    """Refuse, before the first draw, what could certify nothing, or does not fit the classes.

    Raises:
        UserError: a hierarchy is not one of these classes, or there are too few draws for one of
            the cases.
    """
    if not certificates:
        return
    names = subject.data.dataset.class_names
    overlapping = getattr(subject.module, "output", "softmax") == "sigmoid" and len(names) > 2
    for smoothing in certificates:
        if overlapping and smoothing.hierarchy:
            raise UserError(
                f"hierarchy = {smoothing.hierarchy!r} is of classes, and the structures of "
                f"{subject.name} overlap: each of them is certified by itself"
            )
        coarser_classes(smoothing.hierarchy, names)
    _require_enough(certificates, subject.data, len(names) - 1 if overlapping else 1)


def _require_enough(certificates: Sequence[Smoothing], data: DataSource, planes: int) -> None:
    """Refuse too few draws for any case; one is read only where its size does not settle it.

    The smallest comes first, so that draws that are too few for all of them are said to be.
    """
    for entry in sorted(data.entries, key=_size):
        most = _size(entry) * planes
        if all(enough_draws(smoothing, most) for smoothing in certificates):
            continue  # and for what of it is scored
        case = data.dataset.load(entry.case_id)
        ignored = 0 if case.ignore_index is None else int((case.labels == case.ignore_index).sum())
        for smoothing in certificates:
            require_draws(smoothing, (case.labels.size - ignored) * planes, f"case {entry.case_id}")


def _size(entry: Entry) -> int:
    return math.prod(entry.shape[1:])


def enough_draws(smoothing: Smoothing, pixels: int) -> bool:
    """Whether any of so many pixels could be certified."""
    return smoothing.n >= least_draws(smoothing.tau, smoothing.alpha, pixels)


def require_draws(smoothing: Smoothing, pixels: int, where: str) -> None:
    """Refuse a certificate under which no pixel could ever be certified.

    Raises:
        UserError: it names the fewest draws that could.
    """
    if not enough_draws(smoothing, pixels):
        least = least_draws(smoothing.tau, smoothing.alpha, pixels)
        raise UserError(
            f"n = {smoothing.n} draws can certify nothing of the {pixels} places of {where} at "
            f"tau = {smoothing.tau:g} and alpha = {smoothing.alpha:g}, corrected for their number; "
            f"it takes at least n = {least}"
        )


def _known(network: Network, batch: Batch) -> Tensor:
    """Which places are scored, and so tested: bool (*places)."""
    ignore, truth = batch.cases[0].ignore_index, batch.truth[0]
    return torch.ones_like(truth, dtype=torch.bool) if ignore is None else truth != ignore


def _choose(votes: Tensor, held: NDArray[np.bool_], smoothing: Smoothing, known: Tensor) -> Tensor:
    """The candidate to be tested at every place, uint8 or int16 (*places).

    The class with the most votes, of equals the first; where it has not enough for its test, the
    finest coarser class that has, or, where none has, the one with the most votes.
    """
    pixels = int(known.sum())
    enough = enough_votes(smoothing.n0, smoothing.n, smoothing.tau, smoothing.alpha, pixels)
    chosen = torch.zeros(votes.shape[1:], dtype=torch.int16, device=votes.device)
    most = votes[0].int()
    for place in range(1, len(held) - 1):
        own = _of(votes, held[place])
        better = own > most
        if place >= votes.shape[0]:  # a coarser class
            better &= most < enough
        chosen[better], most = place, torch.where(better, own, most)
    return chosen


def _of(votes: Tensor, members: NDArray[np.bool_]) -> Tensor:
    """The votes for any of the members, int32 (*places)."""
    return sum(
        (votes[int(label)].int() for label in np.flatnonzero(members)),
        torch.zeros_like(votes[0], dtype=torch.int32),
    )


def _agreements(votes: Tensor, held: NDArray[np.bool_], chosen: Tensor) -> Tensor:
    """How many draws agree with the chosen candidate, int32 (*places)."""
    agreed = torch.zeros(chosen.shape, dtype=torch.int32, device=chosen.device)
    for place in torch.unique(chosen).tolist():
        here = chosen == place
        agreed[here] = _of(votes, held[place])[here]
    return agreed


def _certified(
    agreed: Tensor, chosen: Tensor, known: Tensor, smoothing: Smoothing, abstained: int
) -> Tensor:
    """The candidate that is certified at every place; the last, which is all, where none is."""
    counts = torch.bincount(agreed[known], minlength=smoothing.n + 1).cpu().numpy()
    least = least_count(counts, smoothing.tau, smoothing.alpha, smoothing.correction)
    return torch.where(agreed >= least, chosen, abstained)


@dataclass(frozen=True, eq=False)
class _Plane:
    """Places that are judged for one class: its number among the answers, and where it is true."""

    label: int
    truth: Tensor
    certified: Tensor
    known: Tensor


def _planes(network: Network, batch: Batch, certified: Tensor, known: Tensor) -> list[_Plane]:
    truth = batch.truth[0]
    if network.structures:
        return [
            _Plane(1, truth[s] == 1, certified[s], known[s]) for s in range(network.classes - 1)
        ]
    return [_Plane(label, truth == label, certified, known) for label in range(1, network.classes)]


def _rows(
    network: Network,
    batch: Batch,
    smoothing: Smoothing,
    held: NDArray[np.bool_],
    certified: Tensor,
    known: Tensor,
    seconds: float,
) -> list[dict[str, Any]]:
    case = batch.cases[0]
    planes = _planes(network, batch, certified, known)
    counted = [_counts(plane, held) for plane in planes]
    sums = torch.tensor(counted, dtype=torch.float64)[None]  # (1, S, 4)
    scores = worst_regions(*sums.unbind(-1)).rows()[0]
    facts = {
        "case_id": case.case_id,
        "case_sha256": case.sha256,
        "group_id": case.group_id,
        "forwards": smoothing.n0 + smoothing.n,
        "backwards": 0,
        "member": "",
        "seconds": seconds,
        "precision": "fp32",
        "gradient_check": "",
        "device": network.hardware,
        "marks": " ".join(network.marks),
        **dict.fromkeys(_NOT_MEASURED, nan),
        **{name: nan for names in ON_REQUEST.values() for name in names},
    }
    return [
        {
            **facts,
            "class_id": s + 1,
            "class_name": case.class_names[s + 1],
            **scores[s],
            **_shares(plane, held),
        }
        for s, plane in enumerate(planes)
    ]


def _counts(plane: _Plane, held: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Of a class: certified hits, its pixels, pixels outside that it may be answered at, all."""
    own = plane.truth & plane.known
    may = torch.from_numpy(held[:, plane.label]).to(own.device)[plane.certified.long()]
    hit = own & (plane.certified == plane.label)
    possible = ~plane.truth & plane.known & may
    return tuple(int(part.sum()) for part in (hit, own, possible, plane.known))  # type: ignore[return-value]


def _shares(plane: _Plane, held: NDArray[np.bool_]) -> dict[str, float]:
    """What the smoothed network answers on the clean image, and where it abstains."""
    last, classes = len(held) - 1, held.shape[1]
    own, known = plane.truth & plane.known, plane.known
    answered = (plane.certified == plane.label) & known
    abstained = (plane.certified == last) & known
    coarse = (plane.certified >= classes) & (plane.certified < last) & known
    pixels, inside = int(known.sum()), int(own.sum())
    return {
        "smoothed_jaccard": int((answered & own).sum()) / int((answered | own).sum())
        if inside
        else nan,
        "abstained": int(abstained.sum()) / pixels if pixels else nan,
        "abstained_inside": int((abstained & own).sum()) / inside if inside else nan,
        "coarse": int(coarse.sum()) / pixels if pixels else nan,
    }
