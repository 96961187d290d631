"""A MONAI bundle as a network: its intensity transforms, window and ending, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from segbench.errors import UserError
from segbench.networks.met import Met

if TYPE_CHECKING:
    from segbench.api import Case

_FEW = 1_000_000  # numbers; of more MONAI asks NumPy for percentiles
_SPACING = 0.01  # relative; a case whose spacing is further away would be resampled


PAD_MODES = {"constant": "constant", "edge": "replicate", "replicate": "replicate"}
"""MONAI's ways to pad, as torch calls them."""


@dataclass(frozen=True)
class Padding:
    """``DivisiblePadd``: up to multiples of ``size``, at the end alone or on both sides."""

    size: int
    mode: str
    end: bool

    def sides(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        """What is added before and after each axis."""
        missing = [-n % self.size for n in shape]
        return [(0, n) if self.end else (n // 2, n - n // 2) for n in missing]


@dataclass(frozen=True)
class Geometry:
    """What a bundle wants of the axes of its images.

    Attributes:
        axcodes: of ``Orientationd``; "" where axes stay as in the file.
        pixdim: of ``Spacingd``, in mm; () where any spacing will do. -1 leaves an axis alone.
        transposed: whether pictures have their axes swapped, as MONAI's readers give them.
        pad: of ``DivisiblePadd``.
    """

    axcodes: str = ""
    pixdim: tuple[float, ...] = ()
    transposed: bool = True
    pad: Padding | None = None


@dataclass(frozen=True)
class Ending:
    """What is done with the answer: several sigmoids with a threshold, or the largest logit."""

    sigmoid: bool = False
    threshold: float = 0.5


class BundleNetwork(nn.Module):
    """Images (B, C, *spatial) in [0, 1] of the case that was met -> logits (B, K, *spatial)."""

    def __init__(
        self,
        network: nn.Module,
        intensity: Sequence[tuple[str, Mapping[str, Any]]],
        geometry: Geometry,
        window: Mapping[str, Any] | None,
        ending: Ending,
    ) -> None:
        super().__init__()
        self.network = network
        self.intensity = [(name, dict(arguments)) for name, arguments in intensity]
        self.geometry = geometry
        self.window = dict(window) if window else None
        self.shift = math.log(ending.threshold / (1 - ending.threshold))
        if ending.sigmoid:
            self.output = "sigmoid"
        self._met: Met | None = None
        self._turn: Callable[[Tensor], Tensor] = _same
        self._back: Callable[[Tensor], Tensor] = _same

    def meet(self, case: Case) -> None:
        """Where the voxels of the next case lie, and what [0, 1] means in its file's units.

        Raises:
            UserError: it would have to be resampled.
        """
        axcodes, pixdim = self.geometry.axcodes, self.geometry.pixdim
        met = Met(case, canonical=bool(axcodes))
        self._met = met
        self._turn, self._back = met.of_file, met.canonical
        spacing = met.spacing
        if case.image.ndim == 3 and case.depth is None and self.geometry.transposed:
            self._turn = self._back = _transposed
        elif axcodes and case.image.ndim == 4:
            order, flips = _from_canonical(axcodes)
            self._turn = lambda image: image.permute(0, *(a + 1 for a in order)).flip(flips)
            back = sorted(range(3), key=order.__getitem__)
            self._back = lambda z: z.flip(flips).permute(0, *(a + 1 for a in back))
            spacing = [met.spacing[axis] for axis in order]
        for own, wanted in zip(spacing, pixdim, strict=False):
            if wanted > 0 and abs(own - wanted) > _SPACING * wanted:
                shown = " x ".join(f"{size:g}" for size in spacing)
                raise UserError(
                    f"case {case.case_id} has voxels of {shown} mm, the bundle's Spacingd wants "
                    f"{' x '.join(f'{size:g}' for size in pixdim)}; resample the data first"
                )

    def forward(self, images: Tensor) -> Tensor:
        """Scale, slide, and put the axes back."""
        met = self._met
        if met is None:
            raise UserError("a MONAI bundle must be told of a case before it is asked")
        scaled = [self._scaled(self._turn(met.in_units(image))) for image in images]
        logits = self._padded(torch.stack(scaled))
        return torch.stack([self._back(one) for one in logits]) - self.shift

    def _scaled(self, image: Tensor) -> Tensor:
        for name, arguments in self.intensity:
            image = INTENSITY[name](image, **arguments)
        return image

    def _padded(self, images: Tensor) -> Tensor:
        if self.geometry.pad is None:
            return self._predicted(images)
        sides = self.geometry.pad.sides(images.shape[2:])
        flat = [n for side in reversed(sides) for n in side]
        logits = self._predicted(F.pad(images, flat, mode=self.geometry.pad.mode))
        for axis, (before, _) in enumerate(sides, 2):
            logits = logits.narrow(axis, before, images.shape[axis])
        return logits

    def _predicted(self, images: Tensor) -> Tensor:
        if self.window is None:
            return _first(self.network(images))
        from monai.inferers import sliding_window_inference

        def ask(part: Tensor) -> Tensor:
            return _first(self.network(part))

        def frugal(part: Tensor) -> Tensor:
            answer: Tensor = checkpoint(ask, part, use_reentrant=False)
            return answer

        predictor = frugal if images.requires_grad else ask
        logits: Tensor = sliding_window_inference(images, predictor=predictor, **self.window)
        return logits


def _first(answer: Any) -> Tensor:
    """MONAI's networks with deep supervision answer with the full size first."""
    return answer[0] if isinstance(answer, (tuple, list)) else answer  # type: ignore[no-any-return]


def _same(image: Tensor) -> Tensor:
    return image


def _transposed(image: Tensor) -> Tensor:
    return image.transpose(1, 2)


def _from_canonical(axcodes: str) -> tuple[list[int], list[int]]:
    """From R, A, S: which axis comes where, and which of the new axes (from 1) are flipped."""
    places = {"R": (0, 0), "L": (0, 1), "A": (1, 0), "P": (1, 1), "S": (2, 0), "I": (2, 1)}
    order = [places[code][0] for code in axcodes]
    return order, [n + 1 for n, code in enumerate(axcodes) if places[code][1]]


def _range(
    image: Tensor,
    a_min: Any,
    a_max: Any,
    b_min: float | None = None,
    b_max: float | None = None,
    clip: bool = False,
) -> Tensor:
    """``ScaleIntensityRange``."""
    if bool(a_max == a_min):  # of one value alone
        shifted: Tensor = image - a_min + (b_min or 0.0)
        return shifted
    image = (image - a_min) / (a_max - a_min)
    if b_min is not None and b_max is not None:
        image = image * (b_max - b_min) + b_min
    return image.clamp(b_min, b_max) if clip else image


def _percentiles(
    image: Tensor,
    lower: float,
    upper: float,
    b_min: float | None,
    b_max: float | None,
    clip: bool = False,
    channel_wise: bool = False,
) -> Tensor:
    """``ScaleIntensityRangePercentiles``."""
    if channel_wise:
        return torch.stack([_percentiles(c, lower, upper, b_min, b_max, clip) for c in image])
    ends = [_quantile(image.flatten(), q / 100) for q in (lower, upper)]
    return _range(image, ends[0], ends[1], b_min, b_max, clip)


def _quantile(values: Tensor, share: float) -> Tensor:
    """The value of (N,) below which so much of them lies, between two linearly.

    Of few as torch has it and of more as NumPy has it, which MONAI does too; torch takes no more
    than 16 million.
    """
    if len(values) <= _FEW:
        return torch.quantile(values, share)
    place = share * (len(values) - 1)
    ranks = (math.floor(place), math.ceil(place))
    below, above = (values[values.detach().kthvalue(rank + 1).indices] for rank in ranks)
    return torch.lerp(below, above, place - ranks[0])


def _minmax(
    image: Tensor, minv: float = 0.0, maxv: float = 1.0, channel_wise: bool = False
) -> Tensor:
    """``ScaleIntensity``."""
    if channel_wise:
        return torch.stack([_minmax(channel, minv, maxv) for channel in image])
    low, high = image.min(), image.max()
    if bool(low == high):
        return image * minv
    return (image - low) / (high - low) * (maxv - minv) + minv


def _normalize(
    image: Tensor,
    subtrahend: Any = None,
    divisor: Any = None,
    nonzero: bool = False,
    channel_wise: bool = False,
) -> Tensor:
    """``NormalizeIntensity``."""
    if channel_wise:
        subtrahends = subtrahend if isinstance(subtrahend, list) else [subtrahend] * len(image)
        divisors = divisor if isinstance(divisor, list) else [divisor] * len(image)
        parts = zip(image, subtrahends, divisors, strict=True)
        return torch.stack([_normalize(c, s, d, nonzero) for c, s, d in parts])
    inside = image != 0 if nonzero else torch.ones_like(image, dtype=torch.bool)
    if not bool(inside.any()):
        return image
    some = image[inside]
    mean = some.mean() if subtrahend is None else subtrahend
    std = some.std(correction=0) if divisor is None else divisor
    std = 1.0 if not bool(torch.as_tensor(std).detach().any()) else std
    return ((image - mean) / std).where(inside, image)


INTENSITY: Mapping[str, Callable[..., Tensor]] = {
    "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ScaleIntensity": _minmax,
    "NormalizeIntensity": _normalize,
}
"""MONAI's intensity transforms that a bundle's network does itself: (C, *spatial) each."""
