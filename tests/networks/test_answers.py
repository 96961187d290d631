"""Networks as people write them: each answers in its own way and gets the closed-form score.

The images are of known brightness, the logit is 20 x - 10: a pixel's label turns just where the
budget reaches 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import segbench
from segbench.errors import UserError
from segbench.networks.adapt import adapt_network
from segbench.networks.wishes import Wishes

EPS = 0.2


class Threshold(nn.Module):
    """20 x - 10, answered in the given way."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.conv.weight.fill_(20.0)
            self.conv.bias.fill_(-10.0)  # type: ignore[union-attr]
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        return self.answer(self.conv(images), images)


@dataclass
class Both:
    seg: Tensor
    distance: Tensor


class InPlace(Threshold):
    def forward(self, images: Tensor) -> Any:
        images -= 0.25
        images *= 2
        return self.conv(images / 2 + 0.25)


class Checkpointed(Threshold):
    def forward(self, images: Tensor) -> Any:
        return checkpoint(self.conv, images, use_reentrant=True)


class Alone(Threshold):
    def forward(self, images: Tensor) -> Any:
        assert len(images) == 1, "one image, please"
        return self.conv(images)


class Quarter(Threshold):
    def forward(self, images: Tensor) -> Any:
        hidden = images.expand(-1, 2, -1, -1)
        return {"logits": self.conv(F.avg_pool2d(images, 4)), "hidden": [hidden]}


class TwoStages(Threshold):
    """As for DRIVE: a coarse map and a refined one in training, the refined one else."""

    def forward(self, images: Tensor) -> Any:
        coarse = self.conv(images)
        refined = coarse + F.relu(coarse) * 0
        return (coarse, refined) if self.training else refined


def low(z: Tensor, _: Tensor) -> Any:
    size = z.shape[2:]
    coarse = [F.interpolate(F.avg_pool2d(z, s), size=size, mode="bilinear") for s in (8, 4)]
    return (*coarse, z)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "tuple, first": (lambda: Threshold(lambda z, x: (z, z.expand(-1, 8, -1, -1))), {}),
    "tuple, last": (lambda: Threshold(low), {"output": "-1"}),
    "dictionary": (lambda: Threshold(lambda z, x: {"edge": -z, "seg": z}), {"output": "seg"}),
    "dataclass": (lambda: Threshold(lambda z, x: Both(z, torch.tanh(-z))), {"output": "seg"}),
    "nested": (lambda: Threshold(lambda z, x: {"a": [-z, z]}), {"output": "a.1"}),
    "argmax beside logits": (lambda: Threshold(lambda z, x: ((z[:, 0] > 0).long(), z)), {}),
    "quarter of the size": (lambda: Quarter(low), {"resize_logits": "nearest"}),
    "channels last": (
        lambda: Threshold(lambda z, x: torch.cat([-z / 2, z / 2], 1).permute(0, 2, 3, 1)), {},
    ),
    "no channel axis": (lambda: Threshold(lambda z, x: z[:, 0]), {}),
    "in place": (lambda: InPlace(low), {}),
    "half": (lambda: Threshold(lambda z, x: z).half(), {}),
    "bfloat16": (lambda: Threshold(lambda z, x: z).bfloat16(), {}),
    "double": (lambda: Threshold(lambda z, x: z).double(), {}),
    "checkpointed": (lambda: Checkpointed(low), {}),
    "two stages": (lambda: TwoStages(low).train(), {}),
    "one at a time": (lambda: Alone(low), {}),
}  # fmt: skip


def scene() -> tuple[Tensor, Tensor]:
    """Two images of 16 x 16 in blocks of 4 x 4, each of its own brightness, and which is bright."""
    levels = torch.tensor([0.05, 0.1, 0.25, 0.35, 0.45, 0.55, 0.6, 0.65, 0.75, 0.9, 0.95, 0.2])
    blocks = torch.stack([levels.repeat(2)[:16], levels.flip(0).repeat(2)[:16]]).reshape(2, 1, 4, 4)
    images = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return images, (images[:, 0] > 0.5).long()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("name", NETWORKS)
def test_every_way_to_answer_gets_the_closed_form(name: str) -> None:
    build, said = NETWORKS[name]
    images, labels = scene()
    attacked = segbench.attack(
        build(), images, labels, "pgd:steps=20,rel_step=0.5", eps=EPS, **said
    )
    reached = images - EPS * torch.where(images > 0.5, 1.0, -1.0)
    assert torch.allclose(attacked, reached, atol=1e-5)
    assert torch.equal(attacked > 0.5, reached > 0.5)


@pytest.mark.parametrize("name", ["tuple, last", "dictionary", "dataclass", "nested"])
def test_several_predictions_are_asked_about_by_name(name: str) -> None:
    build, said = NETWORKS[name]
    with pytest.raises(UserError, match=r"several tensors that may be its prediction") as caught:
        adapt_network(build(), [(1, 16, 16)], classes=2)
    option = {"-1": "2"}.get(said["output"], said["output"])
    assert f"--output {option}" in str(caught.value)
    assert "(2, 1, 16, 16), numbers " in str(caught.value)


def test_an_output_that_is_not_there_is_refused_with_those_that_are() -> None:
    net = Threshold(lambda z, x: {"edge": -z, "seg": [z, z + 1]})
    for output, words in (("mask", "is no tensor of"), ("seg", "is several tensors of")):
        with pytest.raises(UserError, match=rf"--output {output} {words} .*edge, seg\.0, seg\.1"):
            adapt_network(net, [(1, 16, 16)], wishes=Wishes(output=output))


def test_classes_tell_logits_from_features() -> None:
    net = Threshold(lambda z, x: [z.expand(-1, 5, -1, -1), torch.cat([-z, z, z], 1)])
    assert adapt_network(net, [(1, 16, 16)], classes=3).place == (1,)


class OfSizes(Threshold):
    """Takes sizes that are multiples of a number, as vision transformers do."""

    def __init__(self, patch: int) -> None:
        super().__init__(lambda z, x: z)
        self.patch = patch

    def forward(self, images: Tensor) -> Any:
        assert not any(size % self.patch for size in images.shape[2:]), f"not of {self.patch}"
        return super().forward(images)


@pytest.mark.parametrize("patch", [3, 14, 24, 28, 112])
def test_the_stride_is_searched(patch: int) -> None:
    shapes = [(1, 64, 50), (1, 40, 64)]
    adapted = adapt_network(OfSizes(patch), shapes)
    assert all(-(-size // adapted.stride) * adapted.stride % patch == 0 for size in (40, 50, 64))
    for shape in shapes:
        images = torch.rand(2, *shape)
        assert torch.allclose(adapted.module(images), 20 * images - 10, atol=1e-4)


class Grouped(Threshold):
    """Divides by the deviation of all that is left at an eighth of the size, as group norm does."""

    def forward(self, images: Tensor) -> Any:
        small = F.avg_pool2d(images, 8).expand(-1, 4, -1, -1)
        return self.conv(images) + 0 * F.group_norm(small, 4).sum()


def test_a_size_at_which_a_case_cannot_come_alone_is_padded() -> None:
    """Of two images there are two values a group, of one there is one, which torch refuses."""
    adapted = adapt_network(Grouped(low), [(1, 8, 8)])
    assert adapted.stride == 16
    assert adapted.module(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)


def test_a_size_that_is_never_taken_is_said_to_be_one() -> None:
    with pytest.raises(UserError, match=r"does not accept images of shape .* not of 1000"):
        adapt_network(OfSizes(1000), [(1, 16, 16)])


class Mixed(nn.Module):
    """Half in the middle, whatever its weights are."""

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images.half(), torch.ones(2, 1, 1, 1))


def test_types_that_do_not_go_together_are_said_to_be_that() -> None:
    with pytest.raises(UserError, match="mixes types of numbers within itself"):
        adapt_network(Mixed(), [(1, 16, 16)])


def test_what_is_done_to_a_network_is_said() -> None:
    def said(name: str) -> str:
        return " ".join(adapt_network(NETWORKS[name][0](), [(1, 16, 16)], classes=2).said)

    assert "its weights are float16; here it computes in fp32" in said("half")
    assert "1/4 of the images' size along every axis; it is enlarged" in said("quarter of the size")
    assert "channels of its answer (2, 16, 16, 2) are taken to be last" in said("channels last")
    assert "one image at a time" in said("one at a time")


def test_a_constant_answer_is_marked_as_that_and_not_as_probabilities() -> None:
    fixed = torch.rand(1, 1, 16, 16)
    net = Threshold(lambda z, x: fixed + 0 * z)
    adapted = adapt_network(net, [(1, 16, 16)])
    assert (adapted.probabilities, adapted.marks) == (None, ("constant-network",))


def half(z: Tensor) -> Tensor:
    return F.avg_pool2d(z, 2)


def two(z: Tensor) -> Tensor:
    return torch.cat([-z, z], 1)


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        (lambda z, x: {"out": two(half(z)), "aux": two(z)}, ("out",)),
        (lambda z, x: {"out": two(z), "aux": two(half(z))}, ("out",)),
        (lambda z, x: [two(half(z)), two(z)], (1,)),
        (lambda z, x: (two(z), [two(half(z)), two(half(half(z)))]), (0,)),
        (lambda z, x: (two(half(z)), [z.expand(-1, 7, -1, -1)]), (0,)),
    ],
    ids=["out beside aux", "aux smaller", "deep supervision", "nested", "features"],
)
def test_a_larger_tensor_is_not_taken_for_being_larger(answer: Any, place: Any) -> None:
    adapted = adapt_network(Threshold(answer), [(1, 16, 16)], classes=2)
    assert adapted.place == place
    named = ".".join(map(str, place))
    assert any(said.startswith(f"of its answer {named} is scored") for said in adapted.said)


@pytest.mark.parametrize(
    "answer",
    [
        lambda z, x: (two(half(z)), x),
        lambda z, x: {"lesion": half(z), "organ": z},
        lambda z, x: {"seg": two(half(half(z))), "edge": two(half(z))},
    ],
    ids=["reconstruction", "organ", "both smaller"],
)
def test_a_smaller_tensor_that_may_be_it_is_asked_about(answer: Any) -> None:
    with pytest.raises(UserError, match="several tensors that may be its prediction"):
        adapt_network(Threshold(answer), [(1, 16, 16)], classes=2)
