"""ART's view of a segmentation network, with gradients as ART's own classifier takes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.art import DenseEstimator


class Segmentation(DenseEstimator):
    """By ``backward``, to the parameters too, which ``SegmentationEstimator`` spares."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__(network, tuple(images.shape[1:]), images.device)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, K, *spatial)."""
        return self.model(images)

    def gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        """The gradient of mean cross-entropy by the images."""
        images = images.requires_grad_()
        loss = F.cross_entropy(self.model(images), labels)
        self.model.zero_grad()
        loss.backward()
        assert images.grad is not None
        return images.grad

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each case (B,)."""
        pixels = F.cross_entropy(self.logits(images), labels, reduction="none")
        return pixels.flatten(1).mean(1)
