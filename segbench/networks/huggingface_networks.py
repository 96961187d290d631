"""Networks of transformers as networks of logits: semantic, of queries, and prompted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.errors import UserError
from segbench.networks.channels import Channels, convert_channels
from segbench.networks.prompts import Drawn, Prompt, draw

if TYPE_CHECKING:
    from segbench.api import Case

_ABSENT = -10.0  # the logit of a class that the case has none of, so that nothing is asked


class Semantic(nn.Module):
    """Its own logits (B, K, h, w), at whatever size it gives them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Of all it answers, the logits."""
        logits: Tensor = self.network(pixel_values=images).logits
        return logits


class Queries(nn.Module):
    """A network of class and mask queries: the logarithm of its semantic scores (B, K, H, W).

    As in MaskFormer (Cheng et al., NeurIPS 2021, arXiv 2107.06278): masks are enlarged to the
    image, and a class's score is the sum over queries of its probability times the mask's.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Queries combined."""
        answer: Any = self.network(pixel_values=images)
        masks = F.interpolate(
            answer.masks_queries_logits, images.shape[2:], mode="bilinear", align_corners=False
        )
        classes = answer.class_queries_logits.softmax(-1)[..., :-1]  # the last one is none of them
        scores = torch.einsum("bqk,bqhw->bkhw", classes, masks.sigmoid())
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()


class Prompted(nn.Module):
    """A Segment Anything network, prompted with each class of the case that was met.

    Images (B, C, H, W) in [0, 1] -> logits (B, 1, H, W), or with more classes (B, K, H, W), where
    the background's are 0.
    """

    prompted = True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        prompt: Prompt,
        side: int,
        padded: bool,
        mean: Sequence[float],
        std: Sequence[float],
        channels: Channels | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.prompt, self.side, self.padded, self.channels = prompt, side, padded, channels
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)
        self._drawn: list[Drawn | None] | None = None

    def meet(self, case: Case) -> None:
        """Draw the prompts for the next case from its label map."""
        self._drawn = draw(self.prompt, case)

    def forward(self, images: Tensor) -> Tensor:
        """Every class of every image by its own prompt."""
        if self._drawn is None:
            raise UserError("a prompted network must be told of a case before it is asked")
        pixels, inner = self._pixels(images)
        scale = (inner[1] / images.shape[3], inner[0] / images.shape[2])
        planes = [self._one(images, pixels, drawn, inner, scale) for drawn in self._drawn]
        if len(planes) == 1:
            return planes[0]
        return torch.cat([torch.zeros_like(planes[0]), *planes], 1)

    def _pixels(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images as the network takes them, and the part (H, W) that is not padding."""
        height, width = images.shape[2:]
        longest = max(height, width)
        inner = (self.side, self.side)
        if self.padded:
            share = self.side / longest  # in this order, and halves upwards, as transformers has it
            inner = (int(height * share + 0.5), int(width * share + 0.5))
        resized = F.interpolate(
            convert_channels(images, self.channels), inner, mode="bilinear", antialias=True
        )
        scaled = (resized - self.mean) / self.std
        return F.pad(scaled, (0, self.side - inner[1], 0, self.side - inner[0])), inner

    def _one(
        self,
        images: Tensor,
        pixels: Tensor,
        drawn: Drawn | None,
        inner: tuple[int, int],
        scale: tuple[float, float],
    ) -> Tensor:
        """The logits (B, 1, H, W) of what one prompt asks for."""
        count, size = len(images), images.shape[2:]
        if drawn is None:
            return images[:, :1] * 0 + _ABSENT
        asked: dict[str, Tensor] = {}
        if drawn.box is not None:
            box = torch.from_numpy(drawn.box).to(pixels) * pixels.new_tensor([*scale, *scale])
            asked["input_boxes"] = box.expand(count, 1, 4)
        if drawn.points is not None:
            points = torch.from_numpy(drawn.points).to(pixels) * pixels.new_tensor(scale)
            asked["input_points"] = points.expand(count, 1, *points.shape)
            asked["input_labels"] = torch.ones(count, 1, len(points), dtype=torch.int).to(
                pixels.device
            )
        answer: Any = self.network(pixel_values=pixels, multimask_output=False, **asked)
        masks = answer.pred_masks[:, 0, :1]
        if self.padded:  # SAM's are cut at the network's own size; SAM 2's are enlarged at once
            side = (self.side, self.side)
            whole = F.interpolate(masks, side, mode="bilinear", align_corners=False)
            masks = whole[..., : inner[0], : inner[1]]
        return F.interpolate(masks, size, mode="bilinear", align_corners=False)
