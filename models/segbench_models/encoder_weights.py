"""Published ImageNet weights for our ResNet encoders, from a file that the user gives."""

import pickle
import warnings
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from segbench_models.normalization import Normalize
from segbench_models.resnet import STRIDE, ResNetEncoder

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def load_encoder_weights(encoder: ResNetEncoder, path: str) -> Normalize:
    """Load torchvision's weights into a 2-D encoder; return the normalisation that they expect.

    The file is .safetensors, or .pt or .pth read without unpickling code. The classifier (fc.*) is
    left out; every other name and shape must agree. The first convolution is adapted to the
    encoder's channels: one channel gets the sum over RGB, which is exactly a gray image shown as
    RGB; any other count repeats R, G, B in turn and rescales by 3 / channels. The normalisation
    is ImageNet's per channel for RGB, and its mean over RGB otherwise.

    Raises ValueError for a file that cannot be read or does not fit.
    """
    weights = _read(Path(path))
    weights = {name: w for name, w in weights.items() if not name.startswith("fc.")}
    _check_fit(encoder, weights, path)
    channels = encoder.conv1.in_channels
    weights["conv1.weight"] = adapt_to_channels(weights["conv1.weight"], channels)
    encoder.load_state_dict(weights)
    if channels == 3:
        return Normalize(channels, 2, IMAGENET_MEAN, IMAGENET_STD)
    return Normalize(channels, 2, (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,))


def normalized_encoder(
    name: str, path: str, in_channels: int, spatial_dims: int, output_stride: int = STRIDE
) -> tuple[Normalize, ResNetEncoder]:
    """An encoder and the normalisation of its images, both as published if a path is given.

    Raises ValueError for weights given to volumes, and as `ResNetEncoder` and
    `load_encoder_weights` do.
    """
    encoder = ResNetEncoder(
        name, in_channels=in_channels, spatial_dims=spatial_dims, output_stride=output_stride
    )
    if not path:
        return Normalize(in_channels, spatial_dims), encoder
    if spatial_dims != 2:
        raise ValueError(
            f"encoder_weights are of images, but spatial_dims is {spatial_dims}, expected 2"
        )
    return load_encoder_weights(encoder, path), encoder


def adapt_to_channels(kernel: Tensor, channels: int) -> Tensor:
    """An RGB kernel (O, 3, 7, 7) for `channels` inputs: summed for one, else tiled and rescaled."""
    if channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    rgb = torch.arange(channels) % 3
    return kernel[:, rgb] * (3 / channels)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a regular file")  # a named pipe would be waited for, for ever
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            # torch warns of an unusual pickle protocol; that it reads the file or not is enough.
            warnings.simplefilter("ignore", UserWarning)
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"encoder_weights '{path}' cannot be read ({type(error).__name__}), expected a "
            "state dict of torchvision's ResNet as .safetensors, .pt or .pth"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(w, Tensor) for name, w in weights.items()
    ):
        raise ValueError(
            f"encoder_weights '{path}' hold something other than named tensors, expected the "
            "state dict of torchvision's ResNet"
        )
    return weights


def _check_fit(encoder: ResNetEncoder, weights: dict[str, Tensor], path: str) -> None:
    expected = encoder.state_dict()
    # torchvision's first files were written before batch norm counted batches.
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - weights.keys() - counters)
    unexpected = sorted(weights.keys() - expected.keys())
    # conv1 is adapted: it must be an RGB kernel of the same spatial size.
    wanted = {name: w.shape for name, w in expected.items()}
    wanted["conv1.weight"] = torch.Size((64, 3, *expected["conv1.weight"].shape[2:]))
    wrong = [n for n in sorted(wanted.keys() & weights.keys()) if weights[n].shape != wanted[n]]
    for problem, names in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", wrong),
    ):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise ValueError(
                f"encoder_weights '{path}' do not fit the encoder; {problem}: {shown} "
                f"({len(names)} in all)"
            )
