"""The ResNet encoders against torchvision's names and counts, and MONAI's numbers."""

import pytest
import torch
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from torch.testing import assert_close

from segbench_models.resnet import ENCODERS, ResNetEncoder

# torchvision's counts for RGB, less the classifier's.
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
}
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def torchvision_names(encoder: str, convolutions: int, first_shortcut: int) -> set[str]:
    """The state dict of torchvision's ResNet without fc, as its published files hold it."""
    layers = {"": 1}
    for stage, depth in enumerate(DEPTHS[encoder], start=1):
        layers |= {f"layer{stage}.{block}.": convolutions for block in range(depth)}
    pairs = [
        (f"{prefix}conv{i}", f"{prefix}bn{i}")
        for prefix, count in layers.items()
        for i in range(1, count + 1)
    ]
    pairs += [
        (f"layer{stage}.0.downsample.0", f"layer{stage}.0.downsample.1")
        for stage in range(first_shortcut, 5)
    ]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{conv}.weight" for conv, _ in pairs} | {f"{bn}.{n}" for _, bn in pairs for n in norm}


@pytest.mark.parametrize(
    ("encoder", "convolutions", "first_shortcut"), [("resnet18", 2, 2), ("resnet50", 3, 1)]
)
def test_state_dict_has_torchvisions_names(
    encoder: str, convolutions: int, first_shortcut: int
) -> None:
    with torch.device("meta"):
        names = set(ResNetEncoder(encoder, in_channels=3).state_dict())
    assert names == torchvision_names(encoder, convolutions, first_shortcut)
    if encoder == "resnet50":
        assert len(names) == 318  # torchvision's 320 less fc.weight and fc.bias


def test_every_encoder_has_torchvisions_parameter_count() -> None:
    for name in ENCODERS:
        with torch.device("meta"):
            encoder = ResNetEncoder(name, in_channels=3)
        assert sum(p.numel() for p in encoder.parameters()) == PARAMETERS[name], name


def test_docstring_states_the_measured_count() -> None:
    assert f"{PARAMETERS['resnet50']:,} parameters" in str(ResNetEncoder.__doc__)


@pytest.mark.parametrize(
    ("name", "block", "spatial_dims"),
    [("resnet18", ResNetBlock, 3), ("resnet50", ResNetBottleneck, 2)],
)
def test_deepest_features_are_monais(name: str, block: type, spatial_dims: int) -> None:
    torch.manual_seed(0)
    ours = ResNetEncoder(name, in_channels=3, spatial_dims=spatial_dims).eval()
    monai = ResNet(
        block,
        list(DEPTHS[name]),
        [64, 128, 256, 512],
        spatial_dims=spatial_dims,
        n_input_channels=3,
        conv1_t_stride=2,
        bias_downsample=False,
        feed_forward=False,
    ).eval()
    monai.load_state_dict(ours.state_dict())
    images = torch.rand(1, 3, *[33] * spatial_dims)
    with torch.no_grad():
        pooled = ours(images)[3].flatten(2).mean(2)
        assert_close(pooled, monai(images).reshape(pooled.shape))


def test_levels_have_strides_4_to_32_and_the_named_channels() -> None:
    encoder = ResNetEncoder("resnet18", in_channels=2).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, 2, 64, 96))
    assert [tuple(c.shape[1:]) for c in features] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(encoder.channels, (4, 8, 16, 32), strict=True)
    ]


def test_unknown_encoder_is_refused_with_the_valid_names() -> None:
    with pytest.raises(ValueError, match=r"'resnet20', expected one of resnet18, .+resnet101"):
        ResNetEncoder("resnet20", in_channels=1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("output_stride", "steps"), [(16, (1, 1, 1, 2)), (8, (1, 1, 2, 4))])
def test_a_dilated_encoder_has_the_strided_ones_features_and_more_between_them(
    name: str, output_stride: int, steps: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    strided = ResNetEncoder(name, in_channels=1).eval()
    dilated = ResNetEncoder(name, in_channels=1, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.rand(1, 1, 64, 96)
    for coarse, fine, step in zip(strided(images), dilated(images), steps, strict=True):
        assert_close(fine[..., ::step, ::step], coarse, atol=1e-4, rtol=1e-4)


def test_an_output_stride_that_no_stage_has_is_refused() -> None:
    with pytest.raises(ValueError, match="output_stride is 4, expected 8, 16 or 32"):
        ResNetEncoder("resnet18", in_channels=1, output_stride=4)
