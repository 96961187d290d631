"""CUDA graphs: padded to powers of two, recorded once per size, and only if they answer alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Goal
from segbench.engine.graphs import Graphed
from segbench.engine.network import Network
from segbench.engine.objective import NetworkObjective
from segbench.engine.precision import Precision


class Replay(torch.autograd.Function):
    """Like a recording: answers and gradients lie in buffers that the next replay overwrites."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, buffers: dict[str, Tensor], network: Any) -> Tensor:
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            ctx.leaf, ctx.answer, ctx.buffers = leaf, network(leaf), buffers
        buffers["answer"].copy_(ctx.answer)
        return buffers["answer"].detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (found,) = torch.autograd.grad(ctx.answer, ctx.leaf, gradient)
        ctx.buffers["gradient"].copy_(found)
        return ctx.buffers["gradient"].detach(), None, None


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes that were recorded, by a recorder that needs no accelerator."""
    sizes: list[int] = []

    def record(network: Callable[[Tensor], Tensor], sample: tuple[Tensor]) -> Any:
        sizes.append(len(sample[0]))
        buffers = {"answer": network(sample[0]).detach(), "gradient": torch.empty_like(sample[0])}
        return lambda images: Replay.apply(images, buffers, network)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return sizes


def curved() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh()).requires_grad_(False)


def asked(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    leaf = images.clone().requires_grad_()
    answer = network(leaf)
    (gradient,) = torch.autograd.grad(answer.square().sum(), leaf)
    return answer.detach(), gradient


def test_a_replay_answers_as_the_network_does_whatever_came_after(recorded: list[int]) -> None:
    network = curved()
    graphed = Graphed(network)
    batches = [torch.rand(cases, 1, 5, 4) for cases in (3, 4, 1, 3)]
    answers = [asked(graphed, images) for images in batches]
    for images, (answer, gradient) in zip(batches, answers, strict=True):
        expected, slope = asked(network, images)
        torch.testing.assert_close(answer, expected)
        torch.testing.assert_close(gradient, slope)


def test_every_power_of_two_is_recorded_once(recorded: list[int]) -> None:
    graphed = Graphed(curved())
    for cases in (8, 7, 5, 4, 3, 2, 1, 8, 6):
        graphed(torch.rand(cases, 1, 5, 4))
    assert recorded == [8, 4, 2, 1]


def test_a_network_that_cannot_be_recorded_serves_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    network, images = curved(), torch.rand(3, 1, 5, 4)
    for _ in range(2):
        assert torch.equal(asked(Graphed(network), images)[1], asked(network, images)[1])


def test_a_recording_that_answers_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(network: Callable[[Tensor], Tensor], _: Any) -> Any:
        return lambda images: 2 * network(images)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", wrong)
    network, images = curved(), torch.rand(2, 1, 5, 4)
    assert torch.equal(Graphed(network)(images), network(images))


def test_images_of_another_size_take_the_place_of_what_was_recorded(recorded: list[int]) -> None:
    """A recording holds the memory of its step, and a data set may have a size for every case."""
    graphed = Graphed(curved())
    for side in (5, 5, 6, 7, 5):
        graphed(torch.rand(2, 1, side, 4))
        assert {shape[2] for shape in graphed._recorded} == {side}
    assert len(recorded) == 4


@pytest.mark.gpu
def test_on_an_accelerator_the_real_recorder_is_faithful(device: torch.device) -> None:
    network = curved().to(device)
    graphed = Graphed(network)
    for cases in (3, 4, 3):
        images = torch.rand(cases, 1, 5, 4, device=device)
        for found, expected in zip(asked(graphed, images), asked(network, images), strict=True):
            torch.testing.assert_close(found, expected)
    assert device.type == "cpu" or all(graphed._recorded.values())


@pytest.mark.gpu
def test_what_a_case_keeps_is_measured_beside_the_recordings(device: torch.device) -> None:
    image = torch.rand(1, 1, 32, 32, device=device)
    network = Network("net", curved(), 3, device, Precision("fp32", "the test asks for it"))
    network.prepare(image)
    before = network.saved_bytes(image)
    assert before >= 3 * 32 * 32 * 4
    labels = torch.zeros(1, 32, 32, device=device).long()
    NetworkObjective(network).value_and_grad(image, total, Goal(labels, labels))
    network._saved.clear()
    assert network.saved_bytes(image) == before


def total(logits: Tensor, goal: Goal) -> Tensor:
    return logits.square().flatten(1).sum(1)


class Greedy(nn.Module):
    """Keeps 64 MiB for the gradient of a case."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        wide = images.expand(-1, 64, -1, -1).repeat_interleave(256, dim=2)
        return self.conv(images) + torch.tanh(wide).mean((1, 2), keepdim=True)


@pytest.mark.gpu
def test_a_batch_that_does_not_fit_is_halved_on_an_accelerator(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs an accelerator")
    images = torch.rand(32, 1, 32, 32, device=device)
    labels = torch.zeros(32, 32, 32, device=device).long()
    network = Network("net", Greedy(), 2, device, Precision("fp32", "the test asks for it"))
    network.prepare(images[:2])
    objective = NetworkObjective(network)
    expected = objective.value_and_grad(images[:3], total, Goal(labels[:3], labels[:3]))
    torch.cuda.empty_cache()
    place, whole = torch.cuda.current_device(), torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(2**30 / whole, place)
    try:
        found = objective.value_and_grad(images, total, Goal(labels, labels))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, place)
    assert network.largest_batch is not None
    torch.testing.assert_close(found.gradient[:3], expected.gradient)
