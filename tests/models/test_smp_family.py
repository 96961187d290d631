"""smp/NAME: segmentation-models-pytorch by its class names, against the library itself."""

import pytest
import torch
from torch.testing import assert_close

from segbench.errors import UserError
from segbench.plugins.architecture import resolve_architecture
from segbench_models.library_network import LibraryNetwork

smp = pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)

SMALL = "encoder_name=resnet18"
NETWORKS = {
    "DeepLabV3Plus": f"{SMALL},decoder_channels=8",
    "FPN": f"{SMALL},decoder_pyramid_channels=32,decoder_segmentation_channels=32",
    "Segformer": f"{SMALL},decoder_segmentation_channels=8",
    "Unet": f"{SMALL},decoder_channels=16+8+8+4+4",
}

pytestmark = pytest.mark.usefixtures("offline")


def build(text: str, channels: int = 1, classes: int = 2, dims: int = 2) -> LibraryNetwork:
    torch.manual_seed(0)
    sizes = {"in_channels": channels, "num_classes": classes, "spatial_dims": dims}
    network = resolve_architecture(text, dims).build(**sizes)
    assert isinstance(network, LibraryNetwork)
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_takes_the_data_sets_sizes_and_any_image_size(name: str) -> None:
    model = build(f"smp/{name}:{NETWORKS[name]}", 4, 3)
    images = torch.rand(2, 4, 37, 45, requires_grad=True)
    for mode in (True, False):
        logits = model.train(mode)(images)
        assert logits.shape == (2, 3, 37, 45)
        (gradient,) = torch.autograd.grad(logits.square().sum(), images)
        assert gradient.isfinite().all()
        assert gradient.flatten(1).abs().amax(1).min() > 0


def test_the_logits_are_those_of_the_librarys_own_network_on_normalised_images() -> None:
    model = build(f"smp/Unet:{NETWORKS['Unet']}").eval()
    theirs = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 4, 4),
                      in_channels=1, classes=2).eval()  # fmt: skip
    theirs.load_state_dict(model.network.state_dict())
    images = torch.rand(2, 1, 64, 32)
    assert_close(model(images), theirs((images - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("smp/Unett", "no network 'Unett', expected one of .*Unet"),
        ("smp/Unet:encoder_nam=resnet18", "did you mean 'encoder_name'"),
        ("smp/Unet:encoder_weights=imagenet", "no parameter 'encoder_weights'"),
        ("smp/Unet:encoder_name=resnet17", "cannot be built: .*resnet17"),
        ('smp/Unet:encoder_name="tu-hf-hub:a/net"', "'tu-hf-hub:a/net' is no encoder's name"),
    ],
)
def test_what_the_library_does_not_offer_is_refused_in_a_sentence(
    text: str, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        build(text)


def test_volumes_are_refused() -> None:
    with pytest.raises(UserError, match="is for images, but the data has 3 dimensions"):
        build("smp/Unet", dims=3)
