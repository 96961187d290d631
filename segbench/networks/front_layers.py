"""Layers in front of a network that are meant to wash an attack out of its images.

Guo et al., "Countering adversarial images using input transformations" (ICLR 2018, arXiv
1711.00117: bit depth, JPEG, total variation); Xu et al., "Feature squeezing" (NDSS 2018, arXiv
1704.01155: median); Xie et al., "Mitigating adversarial effects through randomization" (ICLR 2018,
arXiv 1711.01991). All were broken by attacks that go around them (Athalye et al., ICML 2018, arXiv
1802.00420), as segbench's do: a layer without a gradient brings a stand-in, one that draws is
averaged over. Images (B, C, *spatial) in [0, 1] -> the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.errors import UserError


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"--front: {name}={value:g} must lie between {low:g} and {high:g}")


class Jpeg(nn.Module):
    """Written to a JPEG file and read again, gray or in colour; 2-D only.

    Attacks see the identity in its place (BPDA).
    """

    def __init__(self, quality: int = 75) -> None:
        super().__init__()
        _check("quality", quality, 1, 95)
        self.quality = quality

    def forward(self, images: Tensor) -> Tensor:
        """Of three channels one file in colour, else one in gray for each.

        Raises:
            UserError: the images are volumes.
        """
        if images.dim() != 4:
            raise UserError("--front jpeg is for images; volumes have no such file")
        colour = images.shape[1] == 3
        bytes_ = (images.detach().clamp(0, 1) * 255).round().byte().cpu()
        files = bytes_.permute(0, 2, 3, 1) if colour else bytes_.flatten(0, 1)
        read = np.stack([self._through_a_file(file) for file in files.numpy()])
        again = torch.from_numpy(read).to(images) / 255
        return again.permute(0, 3, 1, 2) if colour else again.reshape(images.shape)

    def stand_in(self, inputs: Tensor) -> Tensor:
        """The images themselves, which it changes little."""
        return inputs

    def _through_a_file(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file))


class BitDepth(nn.Module):
    """Rounded to so many bits; attacks see the identity in its place (BPDA)."""

    def __init__(self, bits: int = 5) -> None:
        super().__init__()
        _check("bits", bits, 1, 16)
        self.steps: int = 2**bits - 1

    def forward(self, images: Tensor) -> Tensor:
        """The nearest level."""
        return (images * self.steps).round() / self.steps

    def stand_in(self, inputs: Tensor) -> Tensor:
        """The images themselves, which it changes little."""
        return inputs


class Median(nn.Module):
    """The median of the pixels around, in a square or a cube; its gradient is its own."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        _check("size", size, 3, 9)
        if size % 2 == 0:
            raise UserError(f"--front: size={size} must be odd")
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Borders are repeated."""
        axes = range(2, images.dim())
        around = F.pad(images, [self.size // 2] * (2 * len(axes)), mode="replicate")
        for axis in axes:
            around = around.unfold(axis, self.size, 1)
        middle: Tensor = around.flatten(images.dim()).median(-1).values
        return middle


class TotalVariation(nn.Module):
    """Denoised by total variation (Rudin, Osher & Fatemi 1992), by so many steps of its dual.

    Chambolle's projection (JMIV 2004); every step is differentiable, and attacks go through it.
    """

    def __init__(self, weight: float = 0.03, steps: int = 20) -> None:
        super().__init__()
        _check("weight", weight, 1e-4, 1)
        _check("steps", steps, 1, 200)
        self.weight, self.steps = weight, steps

    def forward(self, images: Tensor) -> Tensor:
        """The minimum of |u - images|^2 / 2 + weight * TV(u), nearly."""
        axes = range(2, images.dim())
        rate = 1 / (4 * len(axes))
        dual = [torch.zeros_like(images) for _ in axes]
        for _ in range(self.steps):
            flow = self._divergence(dual, axes) - images / self.weight
            slopes = [_difference(flow, axis) for axis in axes]
            steep = torch.stack(slopes).square().sum(0).clamp_min(1e-12).sqrt()
            dual = [
                (p + rate * slope) / (1 + rate * steep)
                for p, slope in zip(dual, slopes, strict=True)
            ]
        return (images - self.weight * self._divergence(dual, axes)).clamp(0, 1)

    @staticmethod
    def _divergence(dual: list[Tensor], axes: range) -> Tensor:
        parts = []
        for p, axis in zip(dual, axes, strict=True):
            inner = p.narrow(axis, 0, p.shape[axis] - 1)  # the last slope of an axis is 0
            zero = torch.zeros_like(p.narrow(axis, 0, 1))
            parts.append(torch.cat([inner, zero], axis) - torch.cat([zero, inner], axis))
        return torch.stack(parts).sum(0)


def _difference(values: Tensor, axis: int) -> Tensor:
    """To the next pixel along an axis; 0 at its end."""
    slopes = values.diff(dim=axis)
    return torch.cat([slopes, torch.zeros_like(values.narrow(axis, 0, 1))], axis)


class Randomise(nn.Module):
    """Shrunk to a share of its size that is drawn and enlarged again: pixels stay where they are.

    Attacks ascend the mean over ``samples`` draws (EOT).
    """

    def __init__(self, least: float = 0.8, samples: int = 8) -> None:
        super().__init__()
        _check("least", least, 0.1, 0.99)
        _check("samples", samples, 1, 1000)
        self.least, self.eot_samples = least, samples

    def forward(self, images: Tensor) -> Tensor:
        """Both times linearly."""
        share = self.least + (1 - self.least) * float(torch.rand(()))
        sizes = [max(1, round(share * size)) for size in images.shape[2:]]
        how = "bilinear" if images.dim() == 4 else "trilinear"
        smaller = F.interpolate(images, sizes, mode=how, align_corners=False)
        return F.interpolate(smaller, images.shape[2:], mode=how, align_corners=False)


FRONTS: dict[str, Callable[..., nn.Module]] = {
    "bit-depth": BitDepth,
    "jpeg": Jpeg,
    "median": Median,
    "randomise": Randomise,
    "tv": TotalVariation,
}
