"""Segmentation networks for ART, the Adversarial Robustness Toolbox, which knows classifiers.

>>> from art.attacks.evasion import FastGradientMethod
>>> network, images = torch.nn.Conv2d(1, 2, 1), np.full((4, 1, 32, 32), 0.5, "float32")
>>> estimator = SegmentationEstimator(network, input_shape=(1, 32, 32), num_classes=2)
>>> attack = FastGradientMethod(estimator, eps=2 / 255)
>>> attack.generate(x=images, y=np.zeros((4, 32, 32), int)).shape
(4, 1, 32, 32)

ART's attacks that need only a loss gradient or only answers run on it: ``FastGradientMethod``,
``BasicIterativeMethod``, ``ProjectedGradientDescent``, ``MomentumIterativeMethod``, and
``SquareAttack`` with a ``loss`` and an ``adv_criterion`` of yours. It is no classifier and has no
``nb_classes``, so that ART refuses it to the others by itself. Always pass ``y``: without it ART
takes the network's own answer for the truth.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from art.estimators.pytorch import PyTorchEstimator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.engine.handed import handed, input_gradient
from segbench.engine.network import Network
from segbench.engine.precision import Precision, choose_device
from segbench.engine.unpooling import with_places


class DenseEstimator(PyTorchEstimator):  # type: ignore[misc]
    """ART's questions to a dense network, put to two methods on tensors.

    Images are float32 (B, C, *spatial) in [0, 1]; labels are integers (B, *spatial).
    """

    def __init__(self, model: Any, input_shape: tuple[int, ...], device: torch.device) -> None:
        super().__init__(
            model=model,
            clip_values=(0.0, 1.0),
            channels_first=True,
            device_type="cpu" if device.type == "cpu" else "gpu",
        )
        self._device = device
        self._input_shape = input_shape

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, K, *spatial)."""

    @abstractmethod
    def gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        """The gradient (B, C, *spatial) of each case's loss by its image."""

    @abstractmethod
    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of each case (B,)."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, *spatial)."""
        return self._input_shape

    def predict(self, x: NDArray[Any], batch_size: int = 128, **kwargs: Any) -> NDArray[Any]:
        """Logits (B, K, *spatial)."""
        parts = [self.logits(part) for part in torch.split(self._images(x), batch_size)]
        return torch.cat(parts).cpu().numpy()

    def loss_gradient(self, x: NDArray[Any], y: NDArray[Any], **kwargs: Any) -> NDArray[Any]:
        """The gradient of the loss by the images (B, C, *spatial).

        Raises:
            ValueError: ``y`` is not a mask.
        """
        return self.gradient(self._images(x), self._labels(x, y)).cpu().numpy()

    def compute_loss(self, x: NDArray[Any], y: NDArray[Any], **kwargs: Any) -> NDArray[Any]:
        """The loss of each case (B,).

        Raises:
            ValueError: ``y`` is not a mask.
        """
        return self.losses(self._images(x), self._labels(x, y)).cpu().numpy()

    def fit(self, x: NDArray[Any], y: NDArray[Any], **kwargs: Any) -> None:
        """Not here: the network is frozen."""
        raise NotImplementedError("this network is frozen; `segbench train` trains networks")

    def get_activations(
        self, x: NDArray[Any], layer: int | str, batch_size: int = 128, framework: bool = False
    ) -> NDArray[Any]:
        """Not here: what lies between is the network's own business."""
        raise NotImplementedError("a segmentation estimator gives logits only, no activations")

    def _images(self, x: NDArray[Any]) -> Tensor:
        return torch.tensor(x, dtype=torch.float32, device=self._device)

    def _labels(self, x: NDArray[Any], y: NDArray[Any]) -> Tensor:
        expected = x.shape[:1] + x.shape[2:]
        if y.shape != expected or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(
                f"y is of shape {y.shape} and type {y.dtype}; expected integer labels of shape "
                f"{expected} (ART without y takes the network's own answer)"
            )
        return torch.tensor(y, dtype=torch.int64, device=self._device)


class SegmentationEstimator(DenseEstimator):
    """An ART estimator of any segmentation network, segbench's or your own.

    The loss is cross-entropy, summed over a case's pixels. The network is frozen: it is put in
    evaluation mode and its parameters need no gradients any more.

    Args:
        network: images (B, C, *spatial) in [0, 1] to logits (B, K, *spatial), or to the one logit
            of a sigmoid where there are two classes; its normalisation lies inside it.
        input_shape: (C, *spatial).
        num_classes: K, background included.
        ignore_index: a label value that counts for nothing.
        device: ``cpu`` or ``cuda``; by default the accelerator where there is one.
    """

    def __init__(
        self,
        network: nn.Module,
        input_shape: tuple[int, ...],
        num_classes: int,
        *,
        ignore_index: int | None = None,
        device: str | None = None,
    ) -> None:
        where = choose_device(device)
        super().__init__(network, input_shape, where)
        precision = Precision("fp32", "ART takes its gradients so")
        self._door = Network(type(network).__name__, network, num_classes, where, precision)
        self._followed = with_places(network)
        self._ignore = -100 if ignore_index is None else ignore_index

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, K, *spatial); one sigmoid's z becomes [0, z]."""
        return self._door.exact_logits(images)

    def gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        """The gradient (B, C, *spatial) of cross-entropy, which knows of the places of maxima."""
        images = images.requires_grad_()
        with torch.enable_grad():
            logits = self._door.canonical(self._followed(handed(images)), images)
            loss = self._losses(logits, labels).sum()
        return input_gradient(loss, images)

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each case (B,)."""
        return self._losses(self.logits(images), labels)

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        pixels = F.cross_entropy(logits, labels, ignore_index=self._ignore, reduction="none")
        return pixels.flatten(1).sum(1)
