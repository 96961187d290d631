"""The door to a network: whatever it returns becomes logits (B, K, *spatial), once, here.

One sigmoid channel becomes the two-class logits ``[0, z]``; independent sigmoids (a network that
declares ``output = "sigmoid"``) become logits (B, 2, S, *spatial), the structures being one more
spatial axis. Everything past the door sees K >= 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segbench.api import BringsPostprocess
from segbench.errors import UserError
from segbench.metrics import regions
from segbench.metrics.regions import RegionScores


@dataclass(eq=False)
class Answers:
    """What the answers of a network mean: as logits, labels, masks and scores.

    Attributes:
        name: of the network, for errors.
        classes: K, background included.
    """

    name: str
    module: nn.Module
    classes: int

    @property
    def structures(self) -> bool:
        """Whether its classes are structures that may overlap, each with a sigmoid of its own."""
        return getattr(self.module, "output", "softmax") == "sigmoid" and self.classes > 2

    def canonical(self, answer: Any, images: Tensor) -> Tensor:
        """What the network returned, as fp32 logits (B, K, *spatial) or (B, 2, S, *spatial).

        Raises:
            UserError: it is no tensor, or not of the shape that these images and classes need.
        """
        if isinstance(answer, (tuple, list)) and answer:
            answer = answer[0]
        if not isinstance(answer, Tensor):
            raise UserError(
                f"model {self.name} returned {type(answer).__name__}; expected logits as a tensor"
            )
        of_images = images.shape[:1] + images.shape[2:]
        if answer.dim() != images.dim() or answer.shape[:1] + answer.shape[2:] != of_images:
            raise UserError(
                f"model {self.name} returned shape {tuple(answer.shape)} for images "
                f"{tuple(images.shape)}; expected (B, classes, *spatial) of the same size"
            )
        logits, channels = answer.float(), answer.shape[1]
        if channels == 1 and self.classes == 2:
            return torch.cat([torch.zeros_like(logits), logits], 1)
        if self.structures and channels == self.classes - 1:
            return torch.stack([torch.zeros_like(logits), logits], 1)
        declared = getattr(self.module, "output", "softmax") == "sigmoid"
        if channels == self.classes and not declared:
            return logits
        if channels == self.classes == 2:
            raise UserError(
                f'model {self.name} declares output = "sigmoid" and returned 2 channels, which are '
                "two structures; the data has one beside the background, so expected 1 channel "
                "(or, of a softmax over background and structure, no such declaration)"
            )
        raise UserError(
            f"model {self.name} returned {channels} channels; the data has {self.classes} classes, "
            f"so expected {self.classes} (softmax), 1 (sigmoid, two classes) or, with "
            f'output = "sigmoid", {self.classes - 1}'
        )

    def as_labels(self, logits: Tensor) -> Tensor:
        """int64 labels from canonical logits: the network's own post-processing, or the argmax.

        (B, K, *spatial) -> (B, *spatial), values 0..K-1; (B, 2, S, *spatial) -> (B, S, *spatial),
        0 or 1 for each of S overlapping structures.
        """
        if isinstance(self.module, BringsPostprocess):
            return self.module.postprocess(logits)
        if logits.shape[1] == 2:  # on a CPU ten times the speed of argmax over so short an axis
            return (logits[:, 1] > logits[:, 0]).long()
        return logits.argmax(1)

    def as_truth(
        self,
        labels: Tensor,
        ignore: int | None,
        regions: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """A mask (B, *spatial) in the form this network is scored in.

        The same, or for overlapping structures 0 and 1 (and ``ignore``) as (B, S, *spatial);
        ``regions`` are the labels that each of them is made of, where it is not one.

        Raises:
            UserError: the structures overlap, and the network gives every pixel one class.
        """
        if not self.structures:
            if regions is not None:
                raise UserError(
                    f"model {self.name} gives every pixel one class, and the {len(regions)} "
                    'structures of these data overlap; such a network has output = "sigmoid" and '
                    f"{len(regions)} channels"
                )
            return labels
        parts = regions or [[label] for label in range(1, self.classes)]
        found = [torch.isin(labels, labels.new_tensor(part)) for part in parts]
        planes = torch.stack(found, 1).long()
        return planes if ignore is None else planes.where(labels[:, None] != ignore, ignore)

    def as_masks(self, labels: Tensor) -> Tensor:
        """Labels of ``as_labels`` or ``as_truth`` as a mask per class but the background.

        bool (B, K - 1, *spatial).
        """
        if self.structures:
            return labels == 1
        return torch.stack([labels == c for c in range(1, self.classes)], 1)

    def score(self, predicted: Tensor, truth: Tensor, ignore: int | None) -> RegionScores:
        """Region metrics of predicted labels against ``as_truth`` labels, of one shape, int64."""
        if self.structures:
            return regions.score_structures(predicted, truth, ignore)
        return regions.score_regions(predicted, truth, self.classes, ignore)

    def agreement(
        self, predicted: Tensor, target: Tensor, truth: Tensor, ignore: int | None
    ) -> Tensor:
        """How far predicted labels have come to a target (B,), see ``regions.agree_classes``."""
        if self.structures:
            return regions.agree_structures(predicted, target, truth, ignore)
        return regions.agree_classes(predicted, target, truth, self.classes, ignore)
