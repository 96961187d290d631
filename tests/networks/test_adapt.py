"""A user's own network: its answers become logits, its scale and sizes are met inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from segbench.errors import MachineError, UserError
from segbench.networks.adapt import adapt_network
from segbench.networks.channels import channels_seen
from segbench.networks.normalize import Normalization, parse_normalization
from segbench.networks.probabilities import invert
from segbench.networks.scripted import load_archive

IMAGES = torch.rand(2, 1, 12, 10)
SHAPE = (1, 12, 10)
RGB = torch.rand(2, 3, 4, 5)


class Net(nn.Module):
    """A convolution whose logits the given function turns into an answer."""

    def __init__(self, answer: Any = None, classes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, classes, 3, padding=1)
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        logits = self.conv(images)
        return self.answer(logits) if self.answer else logits


class Ending(nn.Module):
    """A convolution and a final module."""

    def __init__(self, final: nn.Module, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, classes, 3, padding=1)
        self.final = final

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.final(self.conv(images))
        return answer


class Halving(nn.Module):
    """Breaks, or answers smaller, where a size is no multiple of eight."""

    def __init__(self, strict: bool) -> None:
        super().__init__()
        self.strict = strict

    def forward(self, images: Tensor) -> Tensor:
        if self.strict and any(size % 8 for size in images.shape[2:]):
            raise RuntimeError("sizes of tensors must match")
        up = F.interpolate(F.avg_pool2d(images, 8), scale_factor=8.0)
        return torch.cat([up, -up], 1)


def test_a_network_that_needs_nothing_stays_itself() -> None:
    net = Net()
    assert adapt_network(net, [SHAPE]).module is net


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        (lambda z: {"aux": z[:, :1], "out": z}, ("out",)),
        (lambda z: {"anything": z}, ("anything",)),
        (lambda z: (z, [z]), (0,)),
        (lambda z: [z, z], (0,)),
        (lambda z: (z.sigmoid(), z), (1,)),
        (lambda z: (z.argmax(1), {"seg": [z]}), (1, "seg", 0)),
    ],
)
def test_the_logits_are_found_in_an_answer_of_several_parts(answer: Any, place: Any) -> None:
    adapted = adapt_network(Net(answer), [SHAPE])
    assert adapted.place == place
    assert torch.equal(adapted.module(IMAGES), Net()(IMAGES))


@pytest.mark.parametrize("answer", [lambda z: {"a": z.argmax(1)}, lambda z: [], lambda z: "logits"])
def test_an_answer_without_clear_logits_is_refused(answer: Any) -> None:
    with pytest.raises(UserError, match=r"expected logits as a tensor"):
        adapt_network(Net(answer), [SHAPE])


@pytest.mark.parametrize(
    ("net", "kind"),
    [
        (Ending(nn.Sigmoid(), 1), "sigmoid"),
        (Ending(nn.Softmax(1), 3), "softmax"),
        (Net(torch.sigmoid, 1), "sigmoid"),
        (Net(lambda z: torch.softmax(z, 1), 3), "softmax"),
        (Net(lambda z: z.softmax(1), 3), "softmax"),
        (Net(lambda z: (z.softmax(dim=1), z[:, :1]), 3), "softmax"),
    ],
)
def test_a_final_activation_is_stripped_and_leaves_the_logits(net: nn.Module, kind: str) -> None:
    adapted = adapt_network(net, [SHAPE], classes=net.conv.out_channels)  # type: ignore[arg-type]
    assert (adapted.probabilities, adapted.stripped, adapted.marks) == (kind, True, ())
    assert_close(adapted.module(IMAGES), net.conv(IMAGES))  # type: ignore[operator]


class Hidden(nn.Module):
    """Its sigmoid is behind a branch that no tracing follows."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(9 * images - 4) if images.sum() != 7 else images


def test_an_activation_that_cannot_be_stripped_is_inverted_and_marked() -> None:
    adapted = adapt_network(Hidden(), [SHAPE])
    assert adapted.marks == ("probabilities",)
    assert_close(adapted.module(IMAGES), 9 * IMAGES - 4, atol=1e-4, rtol=1e-4)


def test_saturated_probabilities_still_give_finite_logits() -> None:
    saturated = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    assert invert(saturated, "sigmoid").isfinite().all()
    assert invert(saturated, "softmax").isfinite().all()


def test_logits_that_happen_to_lie_between_zero_and_one_are_left_alone() -> None:
    adapted = adapt_network(Net(lambda z: 0.5 + 0.01 * z), [SHAPE])
    assert adapted.probabilities is None


@pytest.mark.parametrize("strict", [True, False])
def test_images_are_padded_to_the_networks_stride_and_cropped_back(strict: bool) -> None:
    net = Halving(strict)
    adapted = adapt_network(net, [SHAPE, (1, 16, 8)])
    assert adapted.stride == 8
    padded = F.pad(IMAGES, (0, 6, 0, 4), mode="replicate")
    images = IMAGES.clone().requires_grad_()
    logits = adapted.module(images)
    assert torch.equal(logits, net(padded)[..., :12, :10])
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert (gradient != 0).all()


def test_a_network_of_another_channel_count_is_refused_with_its_own_words() -> None:
    with pytest.raises(UserError, match=r"\(2, 4, 12, 10\).*to have 1 channels"):
        adapt_network(Net(), [(4, 12, 10)])


class Square(nn.Module):
    """Two logits per pixel, each a weighted sum of squares of so many channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.arange(1.0, 2 * channels + 1).reshape(2, channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images**2, self.weights)


def test_a_gray_network_sees_the_luminance_and_its_gradient_reaches_every_channel() -> None:
    images = RGB.clone().requires_grad_()
    adapted = adapt_network(Square(1), [RGB.shape[1:]], Normalization(channels="luminance"))
    logits = adapted.module(images)
    weights = torch.tensor([0.299, 0.587, 0.114])
    luminance = torch.einsum("bchw,c->bhw", RGB, weights)
    assert_close(logits[:, 1], 2 * luminance**2)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert_close(gradient, 2 * luminance[:, None] * weights[:, None, None])


def test_an_rgb_network_sees_a_gray_image_three_times_then_its_own_scale() -> None:
    wanted = replace(parse_normalization("mean=0.1+0.2+0.3,std=2", 3), channels="repeat")
    adapted = adapt_network(Square(3), [SHAPE], wanted)
    scaled = (IMAGES - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / 2
    assert_close(adapted.module(IMAGES), Square(3)(scaled))
    assert torch.equal(torch.fx.symbolic_trace(adapted.module)(IMAGES), adapted.module(IMAGES))


@pytest.mark.parametrize(
    ("channels", "shape", "option"), [(3, SHAPE, "repeat"), (1, (3, 4, 5), "luminance")]
)
def test_channels_are_never_converted_unasked(
    channels: int, shape: tuple[int, ...], option: str
) -> None:
    with pytest.raises(UserError, match=f"takes {channels}-channel .* give --channels {option}"):
        adapt_network(Square(channels), [shape])


@pytest.mark.parametrize(("channels", "count"), [("repeat", 3), ("luminance", 1), ("repeat", 4)])
def test_a_rule_for_other_images_is_refused(channels: Any, count: int) -> None:
    with pytest.raises(UserError, match=f"--channels {channels} .* images have {count}; leave it"):
        channels_seen(channels, count)


def test_declarations_go_with_the_network() -> None:
    net = Net(lambda z: {"out": z}, 3)
    net.output = "sigmoid"  # type: ignore[assignment]
    net.postprocess = lambda logits: logits.argmax(1)  # type: ignore[assignment]
    module: Any = adapt_network(net, [SHAPE]).module
    assert module.output == "sigmoid"
    assert module.postprocess is net.postprocess


def test_an_adapted_network_can_be_traced() -> None:
    adapted = adapt_network(Net(lambda z: {"out": z}), [SHAPE], parse_normalization("zscore", 1))
    traced = torch.fx.symbolic_trace(adapted.module)
    assert torch.equal(traced(IMAGES), adapted.module(IMAGES))


@pytest.mark.parametrize(
    ("text", "images", "expected"),
    [
        ("0-255", RGB, RGB * 255),
        ("mean=0.5,std=0.25", RGB, (RGB - 0.5) / 0.25),
        ("std=2,mean=0.1+0.2+0.3", RGB, (RGB - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / 2),
        ("imagenet", RGB, (RGB - torch.tensor([0.485, 0.456, 0.406])[:, None, None])
            / torch.tensor([0.229, 0.224, 0.225])[:, None, None]),
        ("imagenet", IMAGES, (IMAGES - 0.449) / 0.226),
        ("zscore", RGB, (RGB - RGB.mean((1, 2, 3), keepdim=True))
            / RGB.std((1, 2, 3), keepdim=True, correction=0)),
    ],
)  # fmt: skip
def test_normalization_is_done_inside(text: str, images: Tensor, expected: Tensor) -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, -x], 1)

    channels = images.shape[1]
    adapted = adapt_network(Same(), [images.shape[1:]], parse_normalization(text, channels))
    assert_close(adapted.module(images)[:, :channels], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "imagnet", "mean=1", "mean=a,std=1", "mean=0+0,std=1", "mean=0,std=0", "mean=nan,std=1", "",
        "mean=123.675,std=58.395", "mean=0,std=255",
    ],
)  # fmt: skip
def test_other_normalizations_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--normalize"):
        parse_normalization(text, 3)


def test_numbers_for_pixels_up_to_255_are_refused_with_those_that_are_meant() -> None:
    text = "mean=123.675+116.28+103.53,std=58.395+57.12+57.375"
    with pytest.raises(UserError, match=r"mean=0.485[+]0.456[+]0.406,std=0.229[+]0.224[+]0.225"):
        parse_normalization(text, 3)


def open_archive(path: Path) -> nn.Module:
    return load_archive(path.read_bytes(), path)


def test_a_torchscript_archive_answers_as_its_network(tmp_path: Path) -> None:
    net = Net().eval()
    torch.jit.trace(net, IMAGES).save(str(tmp_path / "net.pt"))  # type: ignore[no-untyped-call]
    loaded = adapt_network(open_archive(tmp_path / "net.pt"), [SHAPE]).module
    assert_close(loaded(IMAGES), net(IMAGES))


@pytest.mark.parametrize("batch", [1, 2, 4, 0])
def test_an_exported_archive_answers_as_its_network(tmp_path: Path, batch: int) -> None:
    """Also one that was exported for single images, or for a batch of another size."""
    net = Net().eval()
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    example = torch.rand(batch or 2, 1, 12, 10)
    program = torch.export.export(net, (example,), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = adapt_network(open_archive(tmp_path / "net.pt2"), [SHAPE]).module
    images = torch.rand(3, 1, 12, 10)
    assert_close(loaded(images), net(images))


@pytest.mark.parametrize("name", ["weights.pt", "weights.pt2"])
def test_weights_alone_are_no_network(tmp_path: Path, name: str) -> None:
    torch.save(Net().state_dict(), tmp_path / name)
    with pytest.raises(UserError, match="weights alone are no network"):
        open_archive(tmp_path / name)


class Ranged(nn.Module):
    """A network that takes images in [0, 1] alone, and ends in what it is given."""

    def __init__(self, final: nn.Module | None = None, answer: Any = None) -> None:
        super().__init__()
        self.net = Ending(final or nn.Identity(), 1)
        self.answer = answer or (lambda logits: logits)

    def forward(self, images: Tensor) -> Tensor:
        assert ((images >= 0) & (images <= 1)).all(), "expected an image in 0 to 1"
        answer: Tensor = self.answer(self.net(images))
        return answer


@pytest.mark.parametrize(
    ("network", "kind", "stripped"),
    [
        (Ranged(), None, False),
        (Ranged(nn.Sigmoid()), "sigmoid", True),
        (Ranged(answer=lambda z: z.sigmoid() * 1), "sigmoid", False),
        (Ranged(answer=lambda z: z.abs().clamp(0.2, 40) * 0.7), None, False),
    ],
)
def test_a_network_that_checks_its_range_is_told_by_what_it_answers_within(
    network: nn.Module, kind: str | None, stripped: bool
) -> None:
    """Of the last, noise is answered within [0, 1], and white is not."""
    if kind is None and network.answer is not None:
        network.net.conv.weight.data.fill_(0.25)  # type: ignore[union-attr]
    found = adapt_network(network, [SHAPE])
    assert (found.probabilities, found.stripped) == (kind, stripped)
    inverted = kind is not None and not stripped
    assert found.marks == (("probabilities",) if inverted else ())
    assert any("taken for probabilities" in said for said in found.said) == inverted
    logits = network.net.conv(IMAGES) if kind else network(IMAGES)  # type: ignore[operator,union-attr]
    assert_close(found.module(IMAGES), logits, atol=1e-4, rtol=1e-4)


class Uncopied(Ending):
    def __deepcopy__(self, memo: Any) -> None:
        raise KeyError("no copies")


def test_whatever_a_network_raises_while_it_is_made_ready_is_a_sentence() -> None:
    with pytest.raises(MachineError, match="it failed while it was made ready: KeyError: 'no cop"):
        adapt_network(Uncopied(nn.Sigmoid(), 1), [SHAPE])


def test_no_loud_image_is_shown_where_the_answers_to_images_tell_logits() -> None:
    shown = []
    net = Ending(nn.Identity(), 1)
    net.register_forward_pre_hook(lambda _, given: shown.append(float(given[0].abs().max())))
    adapt_network(net, [SHAPE])
    assert max(shown) <= 1
