"""monai/NAME: MONAI's networks by their class names, against MONAI itself."""

import json
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet
from torch.testing import assert_close

from segbench.errors import UserError
from segbench.plugins import registry
from segbench.plugins.architecture import resolve_architecture
from segbench_models.library_network import LibraryNetwork

# Spec text that makes each small; DAF3D and the like need nothing but patience.
NETWORKS = {
    "AttentionUnet": "channels=4+8,strides=2",
    "BasicUNet": "features=4+4+8+8+16+4",
    "BasicUNetPlusPlus": "features=4+4+8+8+16+4,deep_supervision=true",
    "DynUNet": "filters=4+8+16+16+16,deep_supervision=true",
    "FlexibleUNet": "decoder_channels=16+8+8+4+4",
    "HighResNet": "",
    "MedNeXt": "init_filters=4,blocks_down=1+1+1+1,blocks_up=1+1+1+1",
    "SegResNet": "init_filters=8",
    "SegResNetDS": "init_filters=8,dsdepth=2",
    "SwinUNETR": "feature_size=12,depths=1+1+1+1",
    "UNETR": "img_size=32,hidden_size=24,num_heads=2,mlp_dim=24,feature_size=4",
    "UNet": "channels=4+8,strides=2,norm=batch,num_res_units=1",
    "VNet": "dropout_dim=2",
}


def build(text: str, channels: int = 1, classes: int = 2, dims: int = 2) -> LibraryNetwork:
    torch.manual_seed(0)
    architecture = resolve_architecture(text, dims)
    network = architecture.build(in_channels=channels, num_classes=classes, spatial_dims=dims)
    assert isinstance(network, LibraryNetwork)
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_takes_the_data_sets_sizes_and_any_image_size(name: str) -> None:
    settings = NETWORKS[name]
    model = build(f"monai/{name}:{settings}" if settings else f"monai/{name}", 2, 3)
    images = torch.rand(2, 2, 31, 20, requires_grad=True)
    for mode in (True, False):
        answer = model.train(mode)(images)
        assert mode or isinstance(answer, torch.Tensor)
        outputs = [answer] if isinstance(answer, torch.Tensor) else [answer[0], *answer[1]]
        assert all(logits.shape == (2, 3, 31, 20) for logits in outputs)
        (gradient,) = torch.autograd.grad(sum(z.square().sum() for z in outputs), images)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_the_logits_are_those_of_monais_own_network_on_normalised_images() -> None:
    model = build("monai/UNet:channels=4+8+16,strides=2+2").eval()
    theirs = UNet(2, 1, 2, channels=(4, 8, 16), strides=(2, 2)).eval()
    theirs.load_state_dict(model.network.state_dict())
    images = torch.rand(2, 1, 64, 32)
    assert_close(model(images), theirs((images - 0.5) / 0.25))


def test_volumes_are_taken_by_the_same_spec() -> None:
    model = build("monai/UNet:channels=4+8,strides=2", dims=3).eval()
    assert model(torch.rand(1, 1, 9, 8, 7)).shape == (1, 2, 9, 8, 7)


def test_evaluation_gives_the_answer_monai_calls_its_last_where_it_is() -> None:
    """BasicUNetPlusPlus answers from its shallowest node to its deepest, which is the one meant."""
    model = build("monai/BasicUNetPlusPlus:features=4+4+8+8+16+4,deep_supervision=true").eval()
    images = torch.rand(1, 1, 32, 64)
    assert_close(model(images), model.network(model.normalize(images))[-1])


def test_parameters_survive_a_card() -> None:
    architecture = resolve_architecture("monai/DynUNet:filters=4+8+8+8+8", 2)
    copy: dict[str, Any] = json.loads(json.dumps(dict(architecture.parameters)))
    sizes = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2}
    rebuilt = registry.load("models", "monai/DynUNet").factory(**sizes, **copy)
    ours = architecture.build(**sizes)
    assert [p.shape for p in rebuilt.parameters()] == [p.shape for p in ours.parameters()]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("monai/NoSuchNet", "no network 'NoSuchNet'"),
        ("monai/VQVAE", "reconstructs images"),
        ("monai/ResNet", "takes no in_channels"),
        ("monai/UNet:chanels=4", "did you mean 'channels'"),
        ("monai/UNet:channels=4.5", "is not a list of whole numbers"),
        ("monai/FlexibleUNet:pretrained=true", "no parameter 'pretrained'"),
        ("monia/UNet", "unknown model 'monia/UNet'"),
    ],
)
def test_what_monai_does_not_offer_is_refused_in_a_sentence(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        resolve_architecture(text, 2)


def test_hyper_parameters_that_monai_refuses_are_the_users() -> None:
    with pytest.raises(UserError, match="cannot be built"):
        build("monai/UNet:channels=4,strides=2")


def test_an_image_larger_than_a_fixed_size_is_refused() -> None:
    model = build(f"monai/UNETR:{NETWORKS['UNETR']}").eval()
    with pytest.raises(ValueError, match=r"40 pixels long.*img_size=32"):
        model(torch.rand(1, 1, 40, 8))


def test_a_family_is_listed_apart_from_single_models() -> None:
    assert "monai" in registry.families("models")
    assert not [name for name in registry.names("models") if "/" in name]
    assert registry.load("models", "monai/UNet").name == "monai/UNet"
