"""`corruption/NAME`: what scanners, cameras and files do to images, at severities 1 to 5.

After Hendrycks & Dietterich (ICLR 2019, arXiv 1903.12261), with the artefacts of magnetic resonance
beside those of cameras. No network is asked. What is drawn is drawn per case from its own noise and
is the same at every severity, so that a case's curve is one and the same accident growing worse.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Budget, BudgetKind, Goal, Noise, Objective
from segbench.errors import UserError
from segbench.plugins.registry import suggest
from segbench_attacks.calibration import SIMILARITIES, Change, calibrate
from segbench_attacks.prompt_jitter import PromptJitter
from segbench_attacks.severities import EDGE, SEVERITIES, check_severities, severity_budgets

_GHOSTS = 4
_OF_PROMPTS = "prompt-jitter"


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption; a subclass says which.

    Attributes:
        severities: which of 1 to 5 to run.
        calibrated: None takes the levels as they are listed; ``ssim`` finds, for each case, the
            level at which its structural similarity with the clean image is ``SIMILARITIES``, so
            that a severity of one corruption is as visible as that of another.
    """

    severities: tuple[int, ...] = SEVERITIES
    calibrated: Literal["ssim"] | None = None

    needs: ClassVar[Literal["labels"]] = "labels"
    budget_kind: ClassVar[BudgetKind] = "severity"
    own_libraries: ClassVar[tuple[str, ...]] = ()
    change: ClassVar[Change]
    levels: ClassVar[tuple[float, ...]]
    span: ClassVar[tuple[float, float]]

    def __post_init__(self) -> None:
        check_severities(self.severities)
        if self.calibrated and not hasattr(self, "span"):
            raise UserError("calibrated=ssim needs a span of levels, which this corruption lacks")

    @property
    def libraries(self) -> tuple[str, ...]:
        """Those that corrupt, and the one that measures similarity."""
        measure = ("monai",) if self.calibrated else ()
        return tuple(sorted({*self.own_libraries, *measure}))

    @property
    def budgets(self) -> Sequence[Budget]:
        """One per severity."""
        return severity_budgets(self.severities)

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The corrupted images (B, C, *spatial).

        Raises:
            UserError: there is no such corruption of volumes, or it cannot be calibrated.
        """
        change, severity = type(self).change, int(budget.value) - 1
        if self.calibrated is None:
            return change(images, self.levels[severity], noise)
        return calibrate(change, self.span, images, noise, SIMILARITIES[severity], objective.region)


def member(name: str) -> type[Corruption] | type[PromptJitter]:
    """The corruption of that name; ValueError, with the nearest one, for any other."""
    if name == _OF_PROMPTS:
        return PromptJitter
    if name not in CORRUPTIONS:
        known = [*CORRUPTIONS, _OF_PROMPTS]
        raise ValueError(f"there is no such corruption{suggest(name, known)}")
    change, *levels = CORRUPTIONS[name]
    fields = {
        "change": staticmethod(change),
        "levels": tuple(levels),
        "span": SPANS[name],
        "own_libraries": tuple(library for library, names in _BY_LIBRARY.items() if name in names),
        "__doc__": change.__doc__,
    }
    return type(name, (Corruption,), fields)


def gaussian_noise(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Normal noise of that standard deviation, in shares of the pixel range."""
    return images + level * noise.normal(0, images.shape[1:])


def rician_noise(images: Tensor, level: float, noise: Noise) -> Tensor:
    """The magnitude of a signal with normal noise, of that standard deviation, in both parts."""
    from monai.transforms import RandRicianNoise

    def corrupt(image: Tensor, seed: int) -> Any:
        transform = RandRicianNoise(prob=1, std=level, sample_std=False)
        return transform.set_random_state(seed)(image)

    return _each(images, corrupt, _seeds(noise))


def blur(images: Tensor, level: float, noise: Noise) -> Tensor:
    """A Gaussian of that many pixels of a 224-pixel edge; the border repeats, it is not black."""
    from scipy import ndimage

    sigma = level * max(images.shape[2:]) / EDGE
    sigmas = (0, 0, *[sigma] * (images.dim() - 2))
    return _like(images, ndimage.gaussian_filter(images.cpu().numpy(), sigmas, mode="nearest"))


def motion(images: Tensor, level: float, noise: Noise) -> Tensor:
    """The mean along a straight path, that many pixels of a 224-pixel edge, in any direction."""
    from scipy import ndimage

    length = level * max(images.shape[2:]) / EDGE
    ways = np.linspace(-length / 2, length / 2, 2 * math.ceil(length) + 1)
    directions = noise.normal(0, (images.dim() - 2,)).cpu().double()

    def corrupt(image: Tensor, case: int) -> Any:
        step = (directions[case] / directions[case].norm()).numpy()
        shifted = [
            ndimage.shift(image.numpy(), (0, *(way * step)), order=1, mode="nearest")
            for way in ways
        ]
        return np.mean(shifted, axis=0)

    return _each(images, corrupt, range(len(images)))


def contrast(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Every pixel's distance from its case's mean, times that factor."""
    mean = images.mean(dim=tuple(range(1, images.dim())), keepdim=True)
    return mean + level * (images - mean)


def gamma(images: Tensor, level: float, noise: Noise) -> Tensor:
    """That exponent or its inverse, by the case's coin, between its darkest and brightest pixel."""
    from monai.transforms import AdjustContrast

    coins = noise.uniform(0, ()).tolist()

    def corrupt(image: Tensor, coin: float) -> Any:
        return AdjustContrast(level if coin < 0.5 else 1 / level)(image)

    return _each(images, corrupt, coins)


def bias_field(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Times exp of a cubic polynomial of place with coefficients up to that size."""
    from monai.transforms import RandBiasField

    def corrupt(image: Tensor, seed: int) -> Any:
        transform = RandBiasField(degree=3, coeff_range=(-level, level), prob=1)
        return transform.set_random_state(seed)(image)

    return _each(images, corrupt, _seeds(noise))


def gibbs(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Ringing: of the radius that holds all of k-space, that share is cut off."""
    from monai.transforms import GibbsNoise

    return _each(images, lambda image, _: GibbsNoise(level)(image), range(len(images)))


def ghosting(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Every fourth line of k-space, but the mean, loses that share, along one of the axes."""
    axes = (noise.uniform(0, ()) * (images.dim() - 2)).long().tolist()

    def corrupt(image: Tensor, axis: int) -> Any:
        length = image.shape[axis + 1]
        line = torch.fft.fftfreq(length, 1 / length).round()
        damped = (line % _GHOSTS == 0) & (line != 0)
        spectrum = torch.fft.fft(image.movedim(axis + 1, -1))
        found = torch.fft.ifft(spectrum * torch.where(damped, 1 - level, 1.0)).real
        return found.movedim(-1, axis + 1)

    return _each(images, corrupt, axes)


def spike(images: Tensor, level: float, noise: Noise) -> Tensor:
    """A herringbone: one place of k-space makes stripes of that amplitude."""
    from monai.transforms import KSpaceSpikeNoise

    spatial = images.shape[2:]
    centre = tuple(length // 2 for length in spatial)
    numbers = noise.uniform(0, (len(spatial),)).tolist()
    intensity = math.log(level * math.prod(spatial))

    def corrupt(image: Tensor, place: Sequence[float]) -> Any:
        spot = tuple(int(u * length) for u, length in zip(place, spatial, strict=True))
        if spot == centre:  # the mean is no stripe
            spot = tuple(min(at + 1, length - 1) for at, length in zip(spot, spatial, strict=True))
        return KSpaceSpikeNoise(spot, intensity)(image)

    return _each(images, corrupt, numbers)


def jpeg(images: Tensor, level: float, noise: Noise) -> Tensor:
    """An 8-bit JPEG file of that quality; three channels as a colour image, others one by one.

    Raises:
        UserError: the images are volumes.
    """
    if images.dim() != 4:
        raise UserError(
            "corruption/jpeg is for 2-D images, and this data set has volumes; leave it out"
        )

    def corrupt(image: Tensor, _: int) -> Any:
        pixels = (image * 255).round().byte().numpy()
        if len(pixels) == 3:
            return _through_jpeg(pixels.transpose(1, 2, 0), level).transpose(2, 0, 1) / 255
        return np.stack([_through_jpeg(channel, level) for channel in pixels]) / 255

    return _each(images, corrupt, range(len(images)))


def downsample(images: Tensor, level: float, noise: Noise) -> Tensor:
    """Pixels averaged to that fraction of the resolution, and linear interpolation back."""
    spatial = images.shape[2:]
    small = [max(1, round(length / level)) for length in spatial]
    mode = "bilinear" if len(spatial) == 2 else "trilinear"
    return F.interpolate(F.interpolate(images, small, mode="area"), tuple(spatial), mode=mode)


CORRUPTIONS: dict[str, tuple[Any, ...]] = {
    "noise": (gaussian_noise, 0.04, 0.08, 0.12, 0.18, 0.26),
    "rician": (rician_noise, 0.04, 0.08, 0.12, 0.18, 0.26),
    "blur": (blur, 1, 2, 3, 4, 6),
    "motion": (motion, 4, 8, 12, 18, 26),
    "contrast": (contrast, 0.7, 0.5, 0.35, 0.25, 0.15),
    "gamma": (gamma, 1.25, 1.5, 2, 2.5, 3.5),
    "bias-field": (bias_field, 0.1, 0.2, 0.3, 0.4, 0.5),
    "gibbs": (gibbs, 0.5, 0.6, 0.7, 0.8, 0.87),
    "ghosting": (ghosting, 0.2, 0.4, 0.6, 0.8, 1),
    "spike": (spike, 0.05, 0.1, 0.15, 0.2, 0.3),
    "jpeg": (jpeg, 50, 30, 20, 12, 6),
    "downsample": (downsample, 1.5, 2, 3, 4, 6),
}
"""Name -> what it does, and its level at severities 1 to 5, in the unit that it states."""

SPANS: dict[str, tuple[float, float]] = {
    "noise": (0, 1),
    "rician": (0, 1),
    "blur": (0, 40),
    "motion": (0, 120),
    "contrast": (1, 0),
    "gamma": (1, 30),
    "bias-field": (0, 3),
    "gibbs": (0, 1),
    "ghosting": (0, 1),
    "spike": (1e-4, 3),
    "jpeg": (100, 1),
    "downsample": (1, 60),
}
"""Name -> the level that changes nothing, and one beyond any severity: where a level is sought."""

_BY_LIBRARY = {
    "monai": ("bias-field", "gamma", "gibbs", "rician", "spike"),
    "pillow": ("jpeg",),
    "scipy": ("blur", "motion"),
}


def _each(images: Tensor, corrupt: Callable[[Tensor, Any], Any], drawn: Sequence[Any]) -> Tensor:
    """``corrupt(image (C, *spatial), what was drawn for it)`` of every case, on the CPU."""
    pairs = zip(images.cpu(), drawn, strict=True)
    return _like(images, np.stack([np.asarray(corrupt(image, its)) for image, its in pairs]))


def _like(images: Tensor, found: Any) -> Tensor:
    return torch.as_tensor(found, dtype=images.dtype, device=images.device)


def _seeds(noise: Noise) -> list[int]:
    """One per case, for a transform that draws its own numbers."""
    return (noise.uniform(0, ()).double() * 2**24).long().tolist()


def _through_jpeg(pixels: Any, quality: float) -> Any:
    """8-bit pixels (H, W) or (H, W, 3), written to a JPEG file in memory and read back."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file))
