"""The least that ART's gradient attacks need of a segmentation network: no classifier mixin."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.estimators.pytorch import PyTorchEstimator
from torch import Tensor, nn
from torch.nn import functional as F


class Segmentation(PyTorchEstimator):  # type: ignore[misc]
    """Images (B, C, *spatial) in [0, 1] -> logits; gradients as ART's own classifier takes them."""

    estimator_params = PyTorchEstimator.estimator_params

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__(
            model=network,
            clip_values=(0.0, 1.0),
            channels_first=True,
            device_type="cpu" if device.type == "cpu" else "gpu",
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Unknown; no attack used here asks."""
        raise NotImplementedError

    def predict(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> np.ndarray:
        """Logits of numpy images."""
        with torch.no_grad():
            parts = [self.model(part) for part in self._tensor(x).split(batch_size)]
        return torch.cat(parts).cpu().numpy()

    def loss_gradient(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> np.ndarray:
        """The gradient of cross-entropy by the images."""
        images = self._tensor(x).requires_grad_()
        loss = F.cross_entropy(self.model(images), self._tensor(y))
        self.model.zero_grad()
        loss.backward()
        assert images.grad is not None
        return images.grad.cpu().numpy()

    def compute_loss(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> np.ndarray:
        """Cross-entropy."""
        with torch.no_grad():
            return F.cross_entropy(self.model(self._tensor(x)), self._tensor(y)).cpu().numpy()

    def fit(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> None:
        """Not here."""
        raise NotImplementedError

    def get_activations(self, x: np.ndarray, layer: Any, batch_size: int, **kwargs: Any) -> None:
        """Not here."""
        raise NotImplementedError

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array).to(self._device)
