"""hf/NAME:folder=PATH: a folder of transformers, against transformers itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.testing import assert_close

from segbench.errors import UserError
from segbench.plugins.architecture import resolve_architecture

transformers = pytest.importorskip("transformers", minversion="5", exc_type=ImportError)

NAME = "hf/SegformerForSemanticSegmentation"
SIZES = {"depths": [1] * 4, "hidden_sizes": [4, 4, 10, 16], "decoder_hidden_size": 8}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


@pytest.fixture(scope="module")
def theirs() -> Any:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(num_labels=3, **SIZES)
    return transformers.SegformerForSemanticSegmentation(config).eval()


@pytest.fixture
def folder(theirs: Any, tmp_path: Path, offline: None) -> Path:
    """What save_pretrained wrote, on a machine that cannot reach any other."""
    path = tmp_path / "net"
    theirs.save_pretrained(path)
    processor = {"do_normalize": True, "image_mean": MEAN, "image_std": STD}
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def build(text: str, channels: int = 3, classes: int = 3, dims: int = 2) -> nn.Module:
    sizes = {"in_channels": channels, "num_classes": classes, "spatial_dims": dims}
    return resolve_architecture(text, dims).build(**sizes)


def test_the_logits_are_transformers_own_upsampled_to_the_image(theirs: Any, folder: Path) -> None:
    model = build(f"{NAME}:folder={folder}").eval()
    images = torch.rand(2, 3, 64, 96)
    column = (1, 3, 1, 1)
    scaled = (images - torch.tensor(MEAN).reshape(column)) / torch.tensor(STD).reshape(column)
    with torch.no_grad():
        coarse = theirs(pixel_values=scaled).logits
        expected = nn.functional.interpolate(coarse, size=(64, 96), mode="bilinear")
        assert_close(model(images), expected)


def test_any_image_size_has_logits_and_gradients(folder: Path) -> None:
    images = torch.rand(2, 3, 37, 45, requires_grad=True)
    logits = build(f"{NAME}:folder={folder}")(images)
    assert logits.shape == (2, 3, 37, 45)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).abs().amax(1).min() > 0


def test_a_head_for_other_classes_starts_anew_and_nothing_else_does(
    theirs: Any, folder: Path
) -> None:
    model: Any = build(f"{NAME}:folder={folder}", classes=2)
    given = theirs.state_dict()
    new = {
        name
        for name, tensor in model.network.network.state_dict().items()
        if tensor.shape != given[name].shape or not torch.equal(tensor, given[name])
    }
    assert new == {"decode_head.classifier.weight", "decode_head.classifier.bias"}


def test_gray_images_are_shown_as_rgb_only_when_asked_for(folder: Path) -> None:
    with pytest.raises(UserError, match=r"for 3 channels, but it would see 1; channels=repeat"):
        build(f"{NAME}:folder={folder}", channels=1)
    gray = torch.rand(1, 1, 32, 64)
    model = build(f"{NAME}:folder={folder},channels=repeat", channels=1).eval()
    rgb = build(f"{NAME}:folder={folder}").eval()
    assert_close(model(gray), rgb(gray.expand(-1, 3, -1, -1)))
    with pytest.raises(UserError, match="makes 1 channels into 3, but the images have 3"):
        build(f"{NAME}:folder={folder},channels=repeat")


def test_a_folder_that_holds_no_such_network_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    other = "hf/BeitForSemanticSegmentation"
    for text, complaint in (
        (NAME, "needs folder=PATH"),
        (f"{NAME}:folder=nvidia/mit-b0", "'nvidia/mit-b0' does not exist"),
        (f"{other}:folder={folder}", "holds a segformer network, expected beit"),
        ("hf/SegformerModel", "no such network for semantic segmentation"),
        (f"{NAME}:folder={folder},fold=1", "did you mean 'folder'"),
    ):
        with pytest.raises(UserError, match=complaint):
            build(text)
    tensors = safetensors.torch.load(whole)
    del tensors["decode_head.linear_fuse.weight"]
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(UserError, match=r"no weights of Segf.* for decode_head.linear_fuse.weight"):
        build(f"{NAME}:folder={folder}")
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        build(f"{NAME}:folder={folder}")
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="lacks a file"):
        build(f"{NAME}:folder={folder}")


def test_the_automatic_class_takes_what_the_folder_holds(folder: Path) -> None:
    images = torch.rand(1, 3, 32, 64)
    ours = build(f"{NAME}:folder={folder}").eval()
    auto = build(f"hf/AutoModelForSemanticSegmentation:folder={folder}").eval()
    assert torch.equal(auto(images), ours(images))


def test_volumes_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="is for images, but the data has 3 dimensions"):
        build(f"{NAME}:folder={folder}", dims=3)
