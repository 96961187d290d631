"""Training cases: held out by group, kept in memory, varied and stacked into batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Dataset, Entry
from segbench.errors import UserError
from segbench.plugins.dataset import load_case
from segbench.training.augment import augment, derive_seed, halve
from segbench.training.loss import IGNORED
from segbench.training.recipes import Recipe

MEMORY_LIMIT = 2 * 2**30  # bytes of decoded cases

Sample = tuple[Tensor, Tensor]
"""An image float32 (C, *spatial) in [0, 1] and its labels int64 (*spatial), -100 where ignored."""


def hold_out(
    entries: Sequence[Entry], fraction: float, seed: int
) -> tuple[list[Entry], list[Entry]]:
    """Cases for training and for validation, in their old order; no group is on both sides.

    ``fraction`` of the groups, at least one unless it is 0, is held out by a seeded draw; a single
    group is trained on, and nothing is held out.
    """
    groups = sorted({entry.group_id for entry in entries})
    count = min(len(groups) - 1, max(1, round(fraction * len(groups)))) if fraction else 0
    order = np.random.default_rng(derive_seed(seed, "validation")).permutation(len(groups))
    held = {groups[i] for i in order[:count]}
    training = [entry for entry in entries if entry.group_id not in held]
    return training, [entry for entry in entries if entry.group_id in held]


class CaseMemory:
    """Samples by case id, each decoded once as long as they fit into ``limit`` bytes.

    Images whose every value is a multiple of 1/255 are kept as bytes, exactly.

    Attributes:
        contents: ``Case.sha256`` of every case read so far, by case id.
    """

    def __init__(self, dataset: Dataset, limit: int = MEMORY_LIMIT) -> None:
        self._dataset = dataset
        self._free = limit
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}
        self.contents: dict[str, str] = {}

    def __getitem__(self, case_id: str) -> Sample:
        """The sample of a case; its tensors are the caller's own."""
        packed = self._kept.get(case_id)
        if packed is None:
            packed = self._load(case_id)
            size = sum(tensor.nbytes for tensor in packed)
            if size <= self._free:
                self._free -= size
                self._kept[case_id] = packed
        image, labels = packed
        return _unpack(image), labels.long()

    def _load(self, case_id: str) -> tuple[Tensor, Tensor]:
        case = load_case(self._dataset, case_id)
        self.contents[case_id] = case.sha256
        if case.regions is not None:
            raise UserError(
                f"case {case_id}: structures that overlap are attacked and scored, but not trained "
                "on here; leave regions= out, or train one structure at a time"
            )
        labels = torch.tensor(case.labels)
        if case.ignore_index is not None:
            labels[labels == case.ignore_index] = IGNORED
        image = torch.tensor(case.image)
        coarse = (image * 255).round().to(torch.uint8)
        packed = coarse if torch.equal(_unpack(coarse), image) else image
        return packed, labels.to(torch.int16)


def _unpack(image: Tensor) -> Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image.clone()


def epoch_batches(
    memory: CaseMemory, case_ids: Sequence[str], recipe: Recipe, *, seed: int, epoch: int
) -> Iterator[Sample]:
    """One epoch: images (B, C, *spatial) and labels (B, *spatial), B even to within one case.

    Order and variation are pure functions of (seed, epoch, case), so any epoch can be repeated.
    """
    is_coarse = epoch < recipe.coarse_epochs * recipe.epochs
    order = np.random.default_rng(derive_seed(seed, epoch, "order")).permutation(len(case_ids))
    for chosen in np.array_split(order, batch_count(len(case_ids), recipe.batch_size)):
        samples = []
        for case_id in (case_ids[i] for i in chosen):
            image, labels = memory[case_id]
            case_seed = derive_seed(seed, epoch, case_id)
            sample = augment(image, labels, recipe.augmentation, case_seed)
            samples.append(halve(*sample) if is_coarse else sample)
        yield stack_padded(samples)


def batch_count(cases: int, batch_size: int) -> int:
    """How many batches one epoch has."""
    return math.ceil(cases / batch_size)


def stack_padded(samples: Sequence[Sample]) -> Sample:
    """One batch of the largest size along every axis: images padded with 0, labels with -100."""
    size = [max(axis) for axis in zip(*(labels.shape for _, labels in samples), strict=True)]
    images, truths = [], []
    for image, labels in samples:
        # F.pad counts from the last axis, (before, after) for each.
        missing = [full - now for full, now in zip(size, labels.shape, strict=True)]
        widths = [width for after in reversed(missing) for width in (0, after)]
        images.append(F.pad(image, widths))
        truths.append(F.pad(labels, widths, value=IGNORED))
    return torch.stack(images), torch.stack(truths)


def prepared_ahead(batches: Iterator[Sample], device: torch.device) -> Iterator[Sample]:
    """The same batches on the device, the next one being made while the accelerator works."""
    if device.type == "cpu":  # the cores are busy with the network itself
        yield from batches
        return
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = maker.submit(next, batches, None)
            yield batch[0].to(device), batch[1].to(device)
