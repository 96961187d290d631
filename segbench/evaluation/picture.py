"""A case before and after an attack, made small enough to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segbench.api import UNSCORED, Case
from segbench.engine.network import Network
from segbench.engine.objective import NetworkObjective
from segbench.evaluation.batch import Batch, collate
from segbench.evaluation.score import moved_along
from segbench.evaluation.worker import Worker
from segbench.store.images import Attacked
from segbench.store.pictures import Kept, keep_picture, wanted
from segbench.store.workspace import Workspace

SIDE = 160
"""Pixels; longer images are shown every so many-th pixel."""

_LABELS = ("label", "adversarial_label", "clean_labels", "adversarial_labels")


def keep_telling(
    worker: Worker,
    workspace: Workspace,
    key: str,
    cases: Sequence[Case],
    attacked: Attacked,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Keep pictures of the cases that are the worst, the best and the middle of their cell so far.

    Of a network whose answers are random, or depend on its batch, none.

    Raises:
        MachineError: the disk refused.
    """
    if worker.network.one_by_one:
        return
    scores = _scores(rows)
    chosen = wanted(workspace, key, scores)
    places = {case.sha256: place for place, case in enumerate(cases)}
    for content in chosen:
        place = places[content]
        kept = _kept(worker, cases[place], attacked.pick([place]))
        keep_picture(workspace, key, scores[content], kept)


def _scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Content -> mean Jaccard over the classes that the label has; of cases with any."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if not np.isnan(row["jaccard"]):
            found.setdefault(row["case_sha256"], []).append(row["jaccard"])
    return {content: float(np.mean(values)) for content, values in found.items()}


def _kept(worker: Worker, case: Case, made: Attacked) -> Kept:
    network, batch = worker.network, collate([case], worker.network)
    attacked = made.images.to(network.device)
    truth, answer = _outlines(network, batch, batch.images)
    shown, changed = _outlines(network, moved_along(network, batch, made), attacked)
    whole = {
        "clean": case.image,
        "adversarial": attacked[0].cpu().numpy(),
        "label": truth,
        "adversarial_label": shown,
        "clean_labels": answer,
        "adversarial_labels": changed,
    }
    change = whole["adversarial"] - case.image
    largest = float(max(change.max(), -change.min()))
    facts = {"size": " × ".join(map(str, case.image.shape[1:]))}
    if case.spacing is not None:
        facts["spacing"] = " × ".join(f"{step:.3g}" for step in case.spacing) + " mm"
    if truth.ndim == 3:
        facts["planes"] = "across the first, second and third axis, through the structure"
    planes = tuple(_small(_views(plane, largest)) for plane in _planes(whole))
    return Kept(case.sha256, planes, largest, facts)


def _outlines(
    network: Network, batch: Batch, images: torch.Tensor
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The truth of a batch's one case and the answer to an image of it, both (*spatial).

    Each as it is scored: as classes, and UNSCORED where the truth is ignored.
    """
    case, truth = batch.cases[0], batch.truth[0].cpu().numpy()
    labels = network.as_labels(NetworkObjective(network).scores(images))[0].cpu().numpy()
    dims = case.labels.ndim
    if case.ignore_index is None:
        return _flat(truth, dims), _flat(labels, dims)
    unscored = truth == case.ignore_index
    where = unscored if truth.ndim == dims else unscored[0]
    found = (_flat(np.where(unscored, 0, one), dims) for one in (truth, labels))
    known, answer = (np.where(where, np.uint8(UNSCORED), one) for one in found)
    return known, answer


def _planes(whole: dict[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
    """The image, or of a volume three planes through the middle of its structure."""
    truth = whole["label"]
    if truth.ndim == 2:
        yield whole
        return
    inside = (truth > 0) & (truth != UNSCORED)
    for axis in range(3):
        counts = inside.sum(tuple({0, 1, 2} - {axis}))
        places = np.arange(len(counts))
        middle = int(counts @ places / counts.sum()) if counts.any() else len(counts) // 2
        yield {name: np.take(view, middle, axis - 3) for name, view in whole.items()}


def _views(plane: Mapping[str, NDArray[Any]], largest: float) -> dict[str, NDArray[Any]]:
    """Images (C, H, W) and labels (H, W) as they are kept, the change as a share of the largest."""
    change = _widest(plane["adversarial"] - plane["clean"])
    return {
        "clean": _bytes(plane["clean"]),
        "adversarial": _bytes(plane["adversarial"]),
        **{name: plane[name] for name in _LABELS},
        "change": np.round(127 * change / (largest or 1.0)).astype(np.int8),
    }


def _bytes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(C, H, W) in [0, 1] to (H, W) or, of three channels, (H, W, 3)."""
    levels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return np.moveaxis(levels, 0, -1) if len(levels) == 3 else levels[0]


def _widest(change: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of every pixel the change of the channel that was changed most; (H, W)."""
    channel = np.abs(change).argmax(0)
    return np.asarray(np.take_along_axis(change, channel[None], 0)[0])


def _flat(labels: NDArray[Any], dims: int) -> NDArray[np.uint8]:
    """Overlapping structures (S, *spatial) as classes 1 to S, the last one on top.

    Of more than 254 classes some share a number, and none has 0 or UNSCORED.
    """
    if labels.ndim > dims:
        numbers = np.arange(1, len(labels) + 1).reshape(-1, *(1,) * dims)
        labels = (labels * numbers).max(0)
    return np.where(labels > 0, (labels - 1) % (UNSCORED - 1) + 1, 0).astype(np.uint8)


def _small(views: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    step = -(-max(views["label"].shape) // SIDE)
    return {name: view[::step, ::step] for name, view in views.items()}
