"""The gradient copy: folded only where that changes nothing, and fp32 where the image enters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Goal
from segbench.engine.precision import choose_device
from segbench.errors import UserError


def worn(module: nn.Module) -> nn.Module:
    """A network whose batch norms have seen data and whose weights are no longer small."""
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features, generator=generator)
            layer.running_var = 0.2 + 2 * torch.rand(layer.num_features, generator=generator)
    return module


def conv_norm(inputs: int, outputs: int, **norm: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs, **norm), nn.ReLU()
    )


class Shared(nn.Module):
    """One convolution under two norms: folding either spoils the other."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.conv = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.one, self.two, self.head = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.enter(images)
        logits: Tensor = self.head(self.one(self.conv(x)) + self.two(self.conv(x.relu())))
        return logits


class Untraceable(nn.Module):
    """Its way depends on its data."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = conv_norm(1, 4), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        assert isinstance(images, Tensor)
        x = self.body(images)
        logits: Tensor = self.head(x * 2 if x.mean() > 0 else x)
        return logits


class NormFirst(nn.Module):
    """The norm comes before the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.net(images))
        return logits


class Transposed(nn.Module):
    """A norm behind a transposed convolution, and one behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 2, 2)
        self.norm, self.up = nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2, 2)
        self.upnorm, self.head = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.down(images)).relu()
        logits: Tensor = self.head(self.upnorm(self.up(x)).relu())
        return logits


NETWORKS = {
    "plain": (lambda: nn.Sequential(conv_norm(1, 4), conv_norm(4, 4), nn.Conv2d(4, 2, 1)), True),
    "cumulative norm": (
        lambda: nn.Sequential(conv_norm(1, 4, momentum=None), nn.Conv2d(4, 2, 1)),
        True,
    ),
    "fast norm": (lambda: nn.Sequential(conv_norm(1, 4, momentum=0.9), nn.Conv2d(4, 2, 1)), True),
    "norm without weights": (
        lambda: nn.Sequential(conv_norm(1, 4, affine=False), nn.Conv2d(4, 2, 1)),
        True,
    ),
    "norm first": (NormFirst, True),
    "transposed": (Transposed, True),
    "no norm": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1)), False),
    "shared convolution": (Shared, False),
    "untraceable": (Untraceable, False),
}


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    return nn.functional.cross_entropy(logits, goal.labels, reduction="none").flatten(1).sum(1)


@pytest.mark.parametrize("name", NETWORKS)
def test_fp32_gradients_are_the_originals(name: str, prepared: Any, textured: Any) -> None:
    from segbench.engine.objective import NetworkObjective

    images, truth = textured()
    make, folds = NETWORKS[name]
    original = worn(make())
    network = prepared(original, images)
    assert network.copies.fast.name == ("fp32 folded" if folds else "fp32")
    goal = Goal(truth, truth)
    feedback = NetworkObjective(network).value_and_grad(images, cross_entropy, goal)

    leaf = images.clone().requires_grad_()
    logits = original(leaf)
    loss = cross_entropy(logits, goal)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    torch.testing.assert_close(feedback.logits, logits.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(feedback.loss, loss.detach(), rtol=1e-4, atol=1e-4)
    scale = gradient.abs().amax().item()
    torch.testing.assert_close(feedback.gradient, gradient, rtol=1e-3, atol=1e-4 * scale)


def test_the_original_keeps_its_norms_and_its_weights(prepared: Any, textured: Any) -> None:
    images, _ = textured()
    original = worn(NETWORKS["plain"][0]())
    before = {name: value.clone() for name, value in original.state_dict().items()}
    network = prepared(original, images, precision="bf16")
    assert network.module is original
    after = original.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(value.dtype == before[name].dtype for name, value in after.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_gradients_point_where_fp32_ones_do(name: str, prepared: Any, textured: Any) -> None:
    from segbench.engine.objective import NetworkObjective

    images, truth = textured()
    goal, gradients = Goal(truth, truth), []
    for precision in ("fp32", "bf16"):
        network = prepared(worn(NETWORKS[name][0]()), images, precision=precision)
        assert network.copies.fast.name.startswith(precision)
        feedback = NetworkObjective(network).value_and_grad(images, cross_entropy, goal)
        assert feedback.gradient.dtype == feedback.loss.dtype == torch.float32
        gradients.append(feedback.gradient.flatten(1))
    assert torch.cosine_similarity(*gradients, dim=1).min() > 0.98


class Residual(nn.Module):
    """The image enters twice: by the body and by the shortcut; the last layer sees neither."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.deep = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut, self.head = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = 2 * images - 1
        logits: Tensor = self.head(self.deep(self.body(x).relu()) + self.shortcut(x))
        return logits


def precisions(module: nn.Module, images: Tensor) -> dict[str, torch.dtype]:
    """The type that each convolution really computes in, by the shape of its weight."""
    seen: dict[str, torch.dtype] = {}
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            shape = "x".join(map(str, layer.weight.shape[:3]))
            layer.register_forward_hook(lambda _m, _i, out, s=shape: seen.update({s: out.dtype}))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        module(images)
    return seen


def test_every_layer_that_the_image_enters_stays_in_fp32(prepared: Any, textured: Any) -> None:
    images, _ = textured()
    network = prepared(Residual(), images, precision="bf16")
    fp32, bf16 = torch.float32, torch.bfloat16
    expected = {"4x1x3": fp32, "4x1x1": fp32, "4x4x3": bf16, "2x4x1": bf16}
    assert precisions(network.copies.fast.module, images) == expected


class SharedEntrance(nn.Module):
    """One layer under two names, and another that ties its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.alias = nn.Conv2d(1, 2, 3, padding=1)
        self.enter, self.tied = self.alias, nn.Conv2d(1, 2, 3, padding=1)
        self.tied.weight = self.enter.weight

    def forward(self, images: Tensor) -> Tensor:
        x = self.enter(images)
        logits: Tensor = x + self.tied(x[:, :1])
        return logits


@pytest.mark.parametrize("make", [SharedEntrance, lambda: nn.Sequential(conv_norm(1, 2))])
def test_half_a_gray_level_reaches_the_first_activation_of_a_bright_pixel(
    make: Any, prepared: Any, textured: Any
) -> None:
    """In bf16 these two images are the same."""
    images = torch.full((2, 1, 8, 8), 0.9525)
    nudged = images + 0.5 / 255
    assert torch.equal(images.bfloat16(), nudged.bfloat16())
    module = make()
    for parameter in module.parameters():
        parameter.data = parameter.data.abs() + 0.1
    network = prepared(module, images, precision="bf16")
    inside: list[Tensor] = []
    first = next(m for m in network.copies.fast.module.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_hook(lambda _m, _i, out: inside.append(out))
    with torch.no_grad(), network.copies.fast.autocast():
        for some in (images, nudged):
            network.copies.fast.module(some)
    assert (inside[-1] > inside[0]).all()
    assert inside[0].dtype == torch.float32


class InsistsOnFp32(nn.Module):
    """A network that leaves autocast somewhere inside."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.enter(images)
        with torch.autocast("cpu", enabled=False):
            logits: Tensor = self.head(x.float())
        return logits


def test_a_network_that_insists_on_fp32_gets_it(prepared: Any, run: Any, textured: Any) -> None:
    from segbench.plugins.attack import load_attack

    images, truth = textured()
    network = prepared(InsistsOnFp32(), images, precision="bf16")
    assert network.copies.fast.name == "fp32"
    found = run(network, load_attack("fgsm").attack, images, truth).images
    assert not torch.equal(found, images)


@pytest.mark.parametrize("gpu", [True, False])
def test_a_device_that_cannot_be_used_is_not_recommended(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    with pytest.raises(UserError, match="cannot be used here") as caught:
        choose_device("tpu")
    assert ("cuda" in str(caught.value)) == gpu
