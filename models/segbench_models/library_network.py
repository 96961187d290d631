"""Another library's network behind segbench's door: normalisation, padding, one form of answer."""

from torch import Tensor, nn
from torch.nn import functional as F

from segbench_models.dimensions import LINEAR_UPSAMPLING
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple


class LibraryNetwork(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial).

    Images are padded to multiples of `stride`. The smallest is two strides along the last axis:
    instance norm, which most networks of MONAI have, is undefined on a single position. With
    `fixed_size` they are padded to that size instead, and larger ones refused.

    A network that answers with several tensors (a list, or MONAI's stack along the second axis)
    has auxiliary ones, which training gets and evaluation does not: (logits, [auxiliary, ...]).
    `main` is the index of the logits among them. Coarse answers are upsampled.

    `normalize` is the library's own normalisation where it has one.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        in_channels: int,
        spatial_dims: int,
        stride: int,
        fixed_size: int | None = None,
        main: int = 0,
        normalize: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize or Normalize(in_channels, spatial_dims)
        self.network = network
        self.stride = stride
        self.fixed_size = fixed_size
        self.main = main
        self.spatial_dims = spatial_dims

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits, and in training the auxiliary ones if there are any."""
        padded = self._pad(self.normalize(images))
        answers = self._answers(self.network(padded))
        logits = crop_to(self._fit(answers.pop(self.main), padded), images)
        if not self.training or not answers:
            return logits
        return logits, [crop_to(self._fit(a, padded), images) for a in answers]

    def _pad(self, images: Tensor) -> Tensor:
        if self.fixed_size is None:
            return pad_to_network(images, self.stride)
        largest = max(images.shape[2:])
        if largest > self.fixed_size:
            raise ValueError(
                f"an image is {largest} pixels long, but the network was built for at most "
                f"img_size={self.fixed_size}"
            )
        return pad_to_multiple(images, self.fixed_size)

    def _answers(self, answer: Tensor | list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
        """All answers in a list: a stacked tensor has one more axis than images."""
        if isinstance(answer, Tensor):
            return list(answer.unbind(1)) if answer.dim() > self.spatial_dims + 2 else [answer]
        return list(answer)

    def _fit(self, logits: Tensor, images: Tensor) -> Tensor:
        """Coarser answers at the images' size."""
        size = images.shape[2:]
        if logits.shape[2:] == size:
            return logits
        mode = LINEAR_UPSAMPLING[self.spatial_dims]
        return F.interpolate(logits, size=size, mode=mode, align_corners=False)


def pad_to_network(images: Tensor, stride: int) -> Tensor:
    """(B, C, *spatial) padded to multiples of the stride, at least two of them on the last axis."""
    padded = pad_to_multiple(images, stride)
    if any(size > stride for size in padded.shape[2:]):
        return padded
    # Every axis has to be named for F.pad to repeat the edge of one.
    return F.pad(padded, (0, stride, *[0, 0] * (images.dim() - 3)), mode="replicate")
