"""A trained nnU-Net as a network: all between a file's voxels and its labels, differentiable.

As nnU-Net does it: axes as in the file, transposed, cropped to what is not zero, normalised,
resampled, padded to a tile, predicted tile by tile and mirrored, resampled back and put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.errors import UserError
from segbench.networks.met import Met
from segbench.networks.nnunet_plans import Plans
from segbench.networks.resampling import new_shape, resample
from segbench.networks.tiles import mirrored, nnunet_gaussian, nnunet_starts, slide

if TYPE_CHECKING:
    from segbench.api import Case

_OUTSIDE = 10.0  # the margin by which what was cropped away is background
_NEVER_ZERO = 1e-8  # nnU-Net's: deviations are no smaller


class NnunetNetwork(nn.Module):
    """Images (B, C, *spatial) in [0, 1] of the case that was met -> logits (B, K, *spatial)."""

    def __init__(self, folds: Sequence[nn.Module], mirroring: Sequence[int], plans: Plans) -> None:
        super().__init__()
        settings = plans.settings
        self.folds = nn.ModuleList(folds)
        self.mirroring = tuple(mirroring)
        self.tile = tuple(settings["patch_size"])
        self.spacing = tuple(settings["spacing"])
        self.forward_axes = tuple(plans.plans["transpose_forward"])
        self.schemes = tuple(settings["normalization_schemes"])
        self.masked = tuple(settings["use_mask_for_norm"])
        foreground = plans.plans["foreground_intensity_properties_per_channel"]
        self.foreground = [dict(foreground[str(n)]) for n in range(len(self.schemes))]
        self.data_rule = dict(settings["resampling_fn_data_kwargs"])
        self.logits_rule = dict(settings["resampling_fn_probabilities_kwargs"])
        self.reoriented = plans.plans.get("image_reader_writer") == "NibabelIOWithReorient"
        self.regions = plans.regions
        self.class_order = tuple(plans.dataset.get("regions_class_order", ()))
        self.painted = self.regions
        self._case: _InFile | None = None

    def keep_regions(self) -> None:
        """Answer with the regions themselves, each a sigmoid, for data that overlap too."""
        self.painted = False
        self.output = "sigmoid"

    def meet(self, case: Case) -> None:
        """Where the voxels of the next case lie, and what [0, 1] means in its file's units."""
        self._case = _InFile(case, self.reoriented)

    def forward(self, images: Tensor) -> Tensor:
        """One image at a time, since what is cropped away may differ."""
        if self._case is None:
            raise UserError("a trained nnU-Net must be told of a case before it is asked")
        met = self._case
        return torch.cat([met.back(self._of_file(met.of_file(one), met)) for one in images])

    def _of_file(self, voxels: Tensor, met: _InFile) -> Tensor:
        """Voxels (C, Z, Y, X) in the file's units -> logits (K, Z, Y, X)."""
        order = self.forward_axes
        data = voxels.permute(0, *(axis + 1 for axis in order))
        spacing = [met.spacing[axis] for axis in order]
        inside = _filled(data)
        box = _box(inside)
        data, inside = data[(slice(None), *box)], inside[box]
        data = torch.stack([self._normalised(n, data[n], inside) for n in range(len(data))])
        target = self._target(spacing)
        shape = new_shape(data.shape[1:], spacing, target)
        resampled = resample(data, shape, spacing, target, *_rule(self.data_rule))
        logits = self._predicted(resampled)
        logits = resample(logits, data.shape[1:], target, spacing, *_rule(self.logits_rule))
        if self.painted:
            logits = class_logits(logits, self.class_order)
        whole = [voxels.shape[axis + 1] for axis in order]
        logits = _uncropped(logits, box, whole, background=self.painted or not self.regions)
        return logits.permute(0, *(int(a) + 1 for a in np.argsort(order)))

    def _target(self, spacing: Sequence[float]) -> list[float]:
        """The spacing that the network sees; a 2-D one leaves the first axis alone."""
        own = list(self.spacing)
        return own if len(own) == len(spacing) else [spacing[0], *own]

    def _normalised(self, channel: int, values: Tensor, inside: Tensor) -> Tensor:
        scheme, facts = self.schemes[channel], self.foreground[channel]
        if scheme == "CTNormalization":
            clipped = values.clamp(facts["percentile_00_5"], facts["percentile_99_5"])
            scaled: Tensor = (clipped - facts["mean"]) / max(facts["std"], _NEVER_ZERO)
            return scaled
        if scheme == "ZScoreNormalization":
            if self.masked[channel]:
                some = values[inside]
                alone = (values - some.mean()) / some.std(correction=0).clamp_min(_NEVER_ZERO)
                return alone.where(inside, values)
            return (values - values.mean()) / values.std(correction=0).clamp_min(_NEVER_ZERO)
        if scheme == "RescaleTo01Normalization":
            low, high = values.min(), values.max()
            return (values - low) / (high - low).clamp_min(_NEVER_ZERO)
        return values / 255 if scheme == "RGBTo01Normalization" else values

    def _predicted(self, data: Tensor) -> Tensor:
        """(C, Z, Y, X) -> (K, Z, Y, X), the mean over folds."""
        if len(self.tile) == 3:
            return self._tiled(data[None])[0]
        planes = [self._tiled(data[None, :, z])[0] for z in range(data.shape[1])]
        return torch.stack(planes, 1)

    def _tiled(self, image: Tensor) -> Tensor:
        shape = image.shape[2:]
        missing = [max(0, n - size) for n, size in zip(self.tile, shape, strict=True)]
        sides = [(lack // 2, lack - lack // 2) for lack in missing]
        padded = F.pad(image, [n for side in reversed(sides) for n in side])
        starts = nnunet_starts(padded.shape[2:], self.tile)
        weight = nnunet_gaussian(self.tile).to(image.device)
        answers = [
            slide(padded, self.tile, starts, weight, mirrored(fold, self.mirroring))
            for fold in self.folds
        ]
        inner = tuple(slice(below, below + n) for (below, _), n in zip(sides, shape, strict=True))
        return torch.stack(answers).mean(0)[(slice(None), slice(None), *inner)]


class _InFile:
    """A case as SimpleITK's arrays are: the file's last axis first, a picture one plane."""

    def __init__(self, case: Case, reoriented: bool) -> None:
        self.flat = case.image.ndim == 3
        if self.flat and case.depth is not None:
            raise UserError(
                f"case {case.case_id} is a slice of a volume; nnU-Net normalises whole volumes, so "
                "give the data as volumes (mode=volumes)"
            )
        self.met = Met(case, canonical=reoriented)
        self.spacing = [999.0, *self.met.spacing] if self.flat else self.met.spacing[::-1]

    def of_file(self, image: Tensor) -> Tensor:
        """(C, *canonical) in [0, 1] -> (C, Z, Y, X) in the file's units."""
        values = self.met.in_units(image)
        return values[:, None] if self.flat else self.met.of_file(values).permute(0, 3, 2, 1)

    def back(self, logits: Tensor) -> Tensor:
        """(K, Z, Y, X) -> (1, K, *canonical)."""
        if self.flat:
            return logits[:, 0][None]
        return self.met.canonical(logits.permute(0, 3, 2, 1))[None]


def class_logits(regions: Tensor, order: Sequence[int]) -> Tensor:
    """Logits (K, *spatial) whose largest is the label that nnU-Net makes of regions (R, *spatial).

    Regions are painted over each other in ``order``: a label stands where its region holds and no
    later one does, and its margin is the smallest of those conditions'. Background is where none
    holds.
    """
    rest = torch.full_like(regions[0], torch.inf)
    found: dict[int, Tensor] = {}
    for label, logit in reversed(list(zip(order, regions, strict=True))):
        mine = torch.minimum(logit, rest)
        found[label] = torch.maximum(found[label], mine) if label in found else mine
        rest = torch.minimum(rest, -logit)
    return torch.stack([rest, *(found[label] for label in sorted(found))])


def _rule(rule: dict[str, Any]) -> tuple[int, int, bool | None]:
    return rule["order"], rule.get("order_z", 0), rule.get("force_separate_z")


def _filled(data: Tensor) -> Tensor:
    """Where any channel is not zero, holes filled."""
    from scipy.ndimage import binary_fill_holes

    nonzero = (data.detach() != 0).any(0)
    if bool(nonzero.all()):
        return nonzero
    return torch.from_numpy(binary_fill_holes(nonzero.cpu().numpy())).to(data.device)


def _box(inside: Tensor) -> tuple[slice, ...]:
    """The smallest box around it; everything where it is empty."""
    if not bool(inside.any()):
        return tuple(slice(0, n) for n in inside.shape)
    places = inside.nonzero()
    low, high = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _uncropped(
    logits: Tensor, box: tuple[slice, ...], shape: Sequence[int], *, background: bool
) -> Tensor:
    """Logits of a box within the whole, background around it."""
    sides = [(b.start, n - b.stop) for b, n in zip(box, shape, strict=True)]
    if not any(n for side in sides for n in side):
        return logits
    flat = [n for side in reversed(sides) for n in side]
    if not background:
        return F.pad(logits, flat, value=-_OUTSIDE)
    first = F.pad(logits[:1], flat, value=_OUTSIDE)
    return torch.cat([first, F.pad(logits[1:], flat, value=-_OUTSIDE)])
