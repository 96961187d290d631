"""Whatever a network returns becomes logits (B, K, *spatial), or is refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from segbench.api import Goal
from segbench.engine.objective import NetworkObjective
from segbench.errors import MachineError, UserError


class Answers(nn.Module):
    """Returns what the given function makes of the images."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        return self.answer(images)


IMAGES = torch.rand(2, 1, 6, 5)


def test_one_sigmoid_becomes_zero_and_z(prepared: Any) -> None:
    logits = prepared(Answers(lambda x: 3 * x - 1), IMAGES).exact_logits(IMAGES)
    assert torch.equal(logits, torch.cat([torch.zeros_like(IMAGES), 3 * IMAGES - 1], 1))


@pytest.mark.parametrize("wrap", [lambda x: (x, [x]), lambda x: [x, x], lambda x: (x,)])
def test_the_first_of_several_answers_is_the_logits(wrap: Any, prepared: Any) -> None:
    network = prepared(Answers(lambda x: wrap(torch.cat([x, -x], 1))), IMAGES)
    assert torch.equal(network.exact_logits(IMAGES), torch.cat([IMAGES, -IMAGES], 1))


def test_declared_sigmoids_are_never_argmaxed_together(prepared: Any) -> None:
    module = Answers(lambda x: torch.cat([x + 1, x + 2, -x - 1], 1))
    module.output = "sigmoid"  # type: ignore[assignment]
    network = prepared(module, IMAGES, classes=4)
    logits = network.exact_logits(IMAGES)
    assert logits.shape == (2, 2, 3, 6, 5)
    planes = network.as_labels(logits)
    assert planes[:, :2].eq(1).all()
    assert planes[:, 2].eq(0).all()


def test_two_declared_sigmoids_are_no_softmax_over_two_classes(prepared: Any) -> None:
    module = Answers(lambda x: torch.cat([x, -x], 1))
    module.output = "sigmoid"  # type: ignore[assignment]
    with pytest.raises(UserError, match='declares output = "sigmoid" and returned 2 channels'):
        prepared(module, IMAGES)
    module.answer = lambda x: x
    assert prepared(module, IMAGES).exact_logits(IMAGES).shape == (2, 2, 6, 5)


def test_a_networks_own_postprocessing_makes_the_labels(prepared: Any) -> None:
    module = Answers(lambda x: torch.cat([x, -x], 1))
    module.postprocess = lambda logits: torch.ones_like(logits[:, 0]).long()  # type: ignore[assignment]
    network = prepared(module, IMAGES)
    assert network.as_labels(network.exact_logits(IMAGES)).eq(1).all()


def failing(images: Tensor) -> Tensor:
    raise ValueError


WRONG = {
    "a dictionary": (lambda x: {"out": x}, 2, "dict"),
    "an empty list": (lambda x: [], 2, "list"),
    "too many channels": (lambda x: x.expand(-1, 3, -1, -1), 2, "3 channels"),
    "too few channels": (lambda x: x, 3, "1 channels"),
    "half the size": (lambda x: x[..., ::2, ::2], 2, r"\(2, 1, 3, 3\)"),
    "another batch": (lambda x: x[:1], 2, r"\(1, 1, 6, 5\)"),
    "a number": (lambda x: x.mean(), 2, r"\(\)"),
    "no channels": (lambda x: x[:, 0], 2, r"\(2, 6, 5\)"),
    "an error without words": (failing, 2, "ValueError"),
    "an index error": (lambda x: [][0], 2, "index"),
    "another channel count": (lambda x: torch.conv2d(x, torch.ones(2, 3, 1, 1)), 2, "channels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_any_other_answer_is_refused_by_name(name: str, prepared: Any) -> None:
    answer, classes, words = WRONG[name]
    with pytest.raises(UserError, match=rf"model net .*{words}"):
        prepared(Answers(answer), IMAGES, classes=classes)


class Dropping(nn.Module):
    """Drops units even in evaluation mode."""

    def forward(self, images: Tensor) -> Tensor:
        kept = nn.functional.dropout(images, 0.5, training=True)
        return torch.cat([images, kept], 1)


def test_a_random_network_is_found_out(prepared: Any) -> None:
    network = prepared(Dropping(), IMAGES)
    assert network.marks == ("random-network",)
    assert network.one_by_one


@pytest.mark.parametrize("probe", [IMAGES, IMAGES[:1], IMAGES[:1].repeat(2, 1, 1, 1)])
def test_a_network_that_looks_at_its_batch_mates_is_found_out(probe: Tensor, prepared: Any) -> None:
    """Even with one probe image, or two of the same."""
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    network = prepared(nn.Sequential(norm, nn.Conv2d(1, 2, 1)), probe)
    assert network.marks == ("batch-dependent",)
    assert network.one_by_one


def test_an_honest_network_bears_no_mark(prepared: Any) -> None:
    honest = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3, padding=1))
    assert prepared(honest, IMAGES).marks == ()


def test_the_module_is_frozen_and_in_evaluation_mode(prepared: Any) -> None:
    network = prepared(nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1)).train(), IMAGES)
    assert not any(layer.training for layer in network.module.modules())
    assert not any(p.requires_grad for p in network.module.parameters())


class InPlace(nn.Module):
    """Changes the images that it is given, in one of the ways that torch has for it."""

    def __init__(self, how: Any, channels: int) -> None:
        super().__init__()
        self.how, self.head = how, nn.Conv2d(channels, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.how(images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "how",
    [
        (lambda x: x.sub_(0.5), lambda x: x - 0.5),
        (lambda x: x.data.sub_(0.5) * 0 + x, lambda x: x - 0.5),
        (lambda x: x.clamp_(max=0.4), lambda x: x.clamp(max=0.4)),
    ],
)
def test_a_network_may_write_into_its_images_and_changes_nobody_elses(
    how: tuple[Any, Any], channels: int, prepared: Any
) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, channels, 6, 5).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    network = prepared(InPlace(how[0], channels), images)
    head, goal = network.module.head, Goal(torch.zeros(2, 6, 5).long(), torch.zeros(2, 6, 5).long())
    found = NetworkObjective(network).value_and_grad(images, first_logit, goal)
    leaf = before.clone().requires_grad_()
    expected = first_logit(head(how[1](leaf)), goal)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    assert_close(found.loss, expected)
    assert_close(found.gradient, gradient)
    assert_close(network.exact_logits(images), head(how[1](before)))
    assert torch.equal(images, before)


def first_logit(logits: Tensor, goal: Goal) -> Tensor:
    return logits[:, 0].square().flatten(1).sum(1)


class Checkpointed(nn.Module):
    """Re-entrant checkpointing, which refuses torch.autograd.grad."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = checkpoint(self.head, images, use_reentrant=True)
        return answer


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_network_with_reentrant_checkpoints_gives_its_gradient(prepared: Any) -> None:
    network = prepared(Checkpointed(), IMAGES)
    goal = Goal(torch.zeros(2, 6, 5).long(), torch.zeros(2, 6, 5).long())
    found = NetworkObjective(network).value_and_grad(IMAGES, first_logit, goal)
    leaf = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(first_logit(network.module.head(leaf), goal).sum(), leaf)
    assert_close(found.gradient, gradient)


class Remembering(nn.Module):
    """Adds what it was asked before."""

    before: Any = 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.before = 0.5 * self.before + images.mean()
        return torch.cat([images, images + self.before], 1)


def test_a_network_that_remembers_is_not_called_random(prepared: Any) -> None:
    assert prepared(Remembering(), IMAGES).marks == ("stateful-network",)


def test_a_network_may_not_end_the_process(prepared: Any) -> None:
    def leave(images: Tensor) -> Tensor:
        raise SystemExit(0)

    with pytest.raises(MachineError, match="model net tried to end the process"):
        prepared(Answers(leave), IMAGES)
    network = prepared(Answers(lambda x: torch.cat([x, -x], 1)), IMAGES)
    network.module.answer = leave
    with pytest.raises(MachineError, match="model net tried to end the process"):
        NetworkObjective(network).scores(IMAGES)
