"""Published encoder weights: what loads, how it is adapted, what is refused."""

import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from segbench_models import nlcen
from segbench_models.encoder_weights import adapt_to_channels, load_encoder_weights
from segbench_models.resnet import ResNetEncoder

PublishedWeights = dict[str, Tensor]


@pytest.fixture(scope="module")
def published() -> PublishedWeights:
    """A ResNet-18 state dict as torchvision publishes it, classifier included."""
    torch.manual_seed(0)
    weights = ResNetEncoder("resnet18", in_channels=3).state_dict()
    return {**weights, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_rgb_encoder_gets_every_tensor_unchanged(
    published: PublishedWeights, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(published, path)
    else:
        safetensors.torch.save_file(published, path)
    encoder = ResNetEncoder("resnet18", in_channels=3)
    normalize = load_encoder_weights(encoder, str(path))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, published[name]), name
    white = normalize(torch.ones(1, 3, 1, 1)).flatten()
    assert_close(white, torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))


def test_files_without_batch_counters_load(published: PublishedWeights, tmp_path: Path) -> None:
    old = {n: w for n, w in published.items() if not n.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    load_encoder_weights(ResNetEncoder("resnet18", in_channels=1), str(tmp_path / "old.pth"))


def test_one_channel_answers_as_rgb_does_to_gray() -> None:
    torch.manual_seed(0)
    kernel, gray = torch.randn(4, 3, 7, 7), torch.rand(2, 1, 9, 9)
    as_rgb = F.conv2d(gray.expand(-1, 3, -1, -1), kernel)
    assert_close(F.conv2d(gray, adapt_to_channels(kernel, 1)), as_rgb, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [2, 3, 4, 6])
def test_other_channel_counts_repeat_rgb_and_keep_the_scale(channels: int) -> None:
    kernel = torch.randn(4, 3, 7, 7)
    adapted = adapt_to_channels(kernel, channels)
    for channel in range(channels):
        assert_close(adapted[:, channel] * channels / 3, kernel[:, channel % 3])


def test_checkpoint_keeps_the_normalisation_without_the_file(
    published: PublishedWeights, tmp_path: Path
) -> None:
    torch.save(published, tmp_path / "weights.pth")
    settings = {"in_channels": 3, "num_classes": 2, "encoder": "resnet18", "width": 4}
    source = nlcen.build(**settings, encoder_weights=str(tmp_path / "weights.pth")).eval()
    copy = nlcen.build(**settings).eval()
    copy.load_state_dict(source.state_dict())
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(copy(images), source(images))


def refuse(path: Path, message: str, encoder: str = "resnet18") -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder_weights(ResNetEncoder(encoder, in_channels=1), str(path))
    assert str(path) in str(caught.value)


def test_weights_of_another_network_are_refused_by_name(
    published: PublishedWeights, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({n: w for n, w in published.items() if n != "bn1.bias"}, path)
    refuse(path, "missing: bn1.bias")
    torch.save({**published, "head.weight": torch.zeros(1)}, path)
    refuse(path, "unexpected: head.weight")
    torch.save({**published, "conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    refuse(path, "of another shape: conv1.weight")
    torch.save({"state_dict": published}, path)
    refuse(path, "other than named tensors")
    torch.save([torch.zeros(1)], path)
    refuse(path, "other than named tensors")


class Exploit:
    """What a hostile pickle does: call a function while it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploited"),))


@pytest.mark.parametrize("name", ["hostile.pth", "hostile.safetensors"])
def test_code_in_a_file_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Exploit()}, tmp_path / name)
    refuse(tmp_path / name, "cannot be read")
    (tmp_path / name).write_bytes(pickle.dumps(Exploit()))
    refuse(tmp_path / name, "cannot be read")
    assert not Path("exploited").exists()


def test_truncated_missing_and_empty_files_are_refused(
    published: PublishedWeights, tmp_path: Path
) -> None:
    torch.save(published, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").touch()
    for name in ("half.pth", "empty.pth", "absent.pth", "absent.safetensors"):
        refuse(tmp_path / name, "cannot be read")


def test_weights_of_images_are_refused_for_volumes() -> None:
    with pytest.raises(ValueError, match="spatial_dims is 3, expected 2"):
        nlcen.build(in_channels=1, num_classes=2, spatial_dims=3, encoder_weights="w.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_named_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_encoder_weights(ResNetEncoder("resnet18", in_channels=1), str(path))
