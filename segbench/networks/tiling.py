"""``--tiles``: any network asked tile by tile, with the exact gradient of the whole answer.

Forward it is MONAI's sliding-window inferer, the answers being weighted and added up in fp32. The
gradient is that of this very sum: that of the loss by the whole answer first, then one backward
pass for each tile, whose activations are computed again. So memory holds the activations of one
tile, however large the image is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segbench.errors import UserError

Weights = Literal["gaussian", "constant"]
Slices = tuple[slice, ...]
_SIDES = re.compile(r"\d{1,5}(x\d{1,5}){0,2}")
_SIGMA = 0.125  # of a tile's side, as nnU-Net and MONAI have it


@dataclass(frozen=True)
class Tiles:
    """How an image is cut.

    Attributes:
        sides: of a tile along each axis, in pixels; one for all axes.
        overlap: share of a tile that the next one has in common with it.
        weights: of a tile's answers: a Gaussian, or all alike.
    """

    sides: tuple[int, ...]
    overlap: float = 0.5
    weights: Weights = "gaussian"

    def __str__(self) -> str:
        return f"tiles {'x'.join(map(str, self.sides))} {self.overlap:g} {self.weights}"

    def within(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """The sides of a tile of an image of that size, which is no larger than it.

        Raises:
            UserError: the image has another number of axes.
        """
        sides = self.sides * len(spatial) if len(self.sides) == 1 else self.sides
        if len(sides) != len(spatial):
            raise UserError(
                f"--tiles {'x'.join(map(str, self.sides))} has {len(sides)} sides; these images "
                f"have {len(spatial)} axes"
            )
        return tuple(min(side, whole) for side, whole in zip(sides, spatial, strict=True))

    def slices(self, spatial: Sequence[int]) -> list[Slices]:
        """Where the tiles of an image lie, as MONAI's inferer has them."""
        from monai.data.utils import dense_patch_slices

        tile = self.within(spatial)
        steps = [
            side if side == whole else max(1, int(side * (1 - self.overlap)))
            for side, whole in zip(tile, spatial, strict=True)
        ]
        found: list[Slices] = dense_patch_slices(tuple(spatial), tile, tuple(steps))
        return found

    def importance(self, spatial: Sequence[int], like: Tensor) -> Tensor:
        """The weight of each place in a tile (1, 1, *tile), above 0."""
        from monai.data.utils import compute_importance_map

        found: Tensor = compute_importance_map(
            self.within(spatial), mode=self.weights, sigma_scale=_SIGMA, device=like.device
        )
        return found.float()[None, None]


def parse_tiles(text: str, overlap: float, weights: Weights) -> Tiles | None:
    """``"128x128x128"`` or ``"512"``; "" to None.

    Raises:
        UserError: no sides, or no share of them.
    """
    if not text:
        return None
    sides = tuple(map(int, text.split("x"))) if _SIDES.fullmatch(text) else ()
    if not sides or min(sides) < 4:
        raise UserError(
            f"--tiles {text!r} is no size of tiles; expected 128x128x128, 512x512 or one side for "
            "all axes, of 4 pixels or more"
        )
    if not 0 <= overlap < 1 or not math.isfinite(overlap):
        raise UserError(f"--overlap {overlap:g} is not a share of a tile; expected 0 to below 1")
    return Tiles(sides, overlap, weights)


class TiledNetwork(nn.Module):
    """Images (B, C, *spatial) of any size -> logits (B, K, *spatial) in fp32.

    Attributes:
        inner: answers about a tile; its parameters are not trained.
        before: what is done to the whole image first.
    """

    tiled = True

    def __init__(self, inner: nn.Module, tiles: Tiles, before: nn.Module | None = None) -> None:
        super().__init__()
        self.inner, self.tiles, self.before = inner, tiles, before or nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        images = self.before(images)
        if len(self.tiles.slices(images.shape[2:])) == 1:
            return self.ask(images)
        stitched: Tensor = _Stitched.apply(images, self.ask, self.tiles)  # type: ignore[no-untyped-call]
        return stitched

    def ask(self, part: Tensor) -> Tensor:
        """The inner network's logits about one tile, in fp32."""
        answer: Tensor = self.inner(part)
        return answer.float()


class _Stitched(torch.autograd.Function):
    """The weighted mean of the answers to all tiles of images, (B, K, *spatial)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, ask: Callable[[Tensor], Tensor], tiles: Tiles) -> Tensor:
        from monai.inferers.utils import sliding_window_inference

        ctx.save_for_backward(images)
        ctx.ask, ctx.tiles, ctx.random = ask, tiles, _random_state(images.device)
        device = images.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        with torch.no_grad():
            stitched: Tensor = sliding_window_inference(
                images,
                roi_size=tiles.within(images.shape[2:]),
                sw_batch_size=1,
                predictor=ask,
                overlap=tiles.overlap,
                mode=tiles.weights,
                sigma_scale=_SIGMA,
            )
        return stitched

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (images,), tiles = ctx.saved_tensors, ctx.tiles
        device, dtype, enabled = ctx.autocast
        share = tiles.importance(images.shape[2:], images)
        total = _total(tiles, share, images.shape[2:])
        found = torch.zeros_like(images)
        now = _random_state(images.device)
        _set_random_state(ctx.random, images.device)  # what the network draws it draws again
        for place in _places(tiles, images):
            part = images[place].detach().requires_grad_()
            with torch.enable_grad(), torch.autocast(device, dtype, enabled=enabled):
                answer = ctx.ask(part)
            if answer.requires_grad:
                weighted = grads[0][place] * share / total[(slice(None), slice(None), *place[2:])]
                (own,) = torch.autograd.grad(answer, part, weighted)
                found[place] += own
        _set_random_state(now, images.device)
        return found, None, None


def _places(tiles: Tiles, images: Tensor) -> Iterator[Slices]:
    """Every tile of every image, in the order in which the inferer asks about them."""
    for number in range(len(images)):
        for place in tiles.slices(images.shape[2:]):
            yield (slice(number, number + 1), slice(None), *place)


def _total(tiles: Tiles, share: Tensor, spatial: Sequence[int]) -> Tensor:
    """The weight that each pixel (1, 1, *spatial) has in all tiles together."""
    total = torch.zeros(1, 1, *spatial, device=share.device)
    for place in tiles.slices(spatial):
        total[(slice(None), slice(None), *place)] += share
    return total


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
