"""On a CPU every case is computed alone, several at once where the network bears it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from toys import Curved

from segbench.api import Goal, State
from segbench.engine import alone
from segbench.engine.network import ChangedNetworkError
from segbench.engine.objective import NetworkObjective
from segbench_attacks.pgd import PGD


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Watcher(Curved):
    """Says which thread asked it about how many images, and how many threads that one had."""

    said: ClassVar[list[tuple[str, int, int]]] = []

    def forward(self, images: Tensor) -> Tensor:
        name = threading.current_thread().name.partition("_")[0]
        self.said.append((name, len(images), torch.get_num_threads()))
        return super().forward(images)


class NotesOnItself(Curved):
    """Keeps a value on itself between two lines, as networks do."""

    def forward(self, images: Tensor) -> Tensor:
        self.kept = images
        answer = super().forward(images)
        return answer + 100 * (self.kept.mean((1, 2, 3), keepdim=True) - 0.5)


class Forgetful(Curved):
    """A copy of it answers otherwise."""

    gain = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.gain = 2.5

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "gain"}

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.gain


class Remembers(Curved):
    """Scales by the brightest image that it has seen."""

    peak = 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.peak = max(self.peak, float(images.detach().max()))
        return super().forward(images) * self.peak


class Uncopied(Curved):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.door = threading.Lock()


def pixels(logits: Tensor, goal: Goal) -> Tensor:
    return nn.functional.cross_entropy(logits, goal.labels, reduction="none").flatten(1).sum(1)


def asked(network: Any, images: Tensor, truth: Tensor) -> list[Tensor]:
    objective = NetworkObjective(network)
    feedback = objective.value_and_grad(images, pixels, Goal(truth, truth))
    return [feedback.loss, feedback.gradient, feedback.logits, objective.scores(images)]


@pytest.mark.parametrize("kind", [Curved, NotesOnItself, Forgetful, Uncopied])
@pytest.mark.parametrize("of_ours", [True, False])
def test_a_case_gets_the_answer_that_it_gets_alone(
    kind: type[Curved], of_ours: bool, prepared: Any, textured: Any, request: Any
) -> None:
    if of_ours:
        request.getfixturevalue("known")
    images, truth = textured(6)
    network = prepared(kind(), images)
    together = asked(network, images, truth)
    for n in range(6):
        single = asked(network, images[n : n + 1], truth[n : n + 1])
        for answer, own in zip(together, single, strict=True):
            assert torch.equal(answer[n : n + 1], own)


def test_code_that_nobody_here_knows_is_asked_one_case_after_another(
    prepared: Any, textured: Any
) -> None:
    """What it keeps, and where, cannot be seen; hooks and scripts are no better known."""
    images, _ = textured(3)
    ours = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
    hooked = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))
    hooked[0].register_forward_hook(lambda _m, _i, out: out)
    asked_alone = [
        prepared(module, images).alone.one_after_another(images)
        for module in (ours, Curved(), hooked)
    ]
    assert asked_alone == [False, True, True]
    assert not alone.is_known(torch.jit.script(nn.Conv2d(1, 2, 3, padding=1)))


@pytest.mark.parametrize("kind", [Forgetful, Uncopied])
def test_a_copy_must_answer_as_the_network_does(
    kind: type[Curved], prepared: Any, textured: Any, known: None
) -> None:
    images, _ = textured(3)
    assert prepared(kind(), images).alone.one_after_another(images)


def test_a_network_that_remembers_is_refused_with_several_threads_too(
    prepared: Any, textured: Any
) -> None:
    images, truth = textured(4)
    network = prepared(Remembers(), images * 0.5)
    asked(network, images, truth)
    with pytest.raises(ChangedNetworkError):
        network.require_unchanged()


def test_small_cases_have_a_thread_each_and_a_large_one_has_all(
    prepared: Any, textured: Any, monkeypatch: pytest.MonkeyPatch, known: None
) -> None:
    images, truth = textured(5)
    for busy, expected in ((2**20, ("case", 1, 1)), (1, ("MainThread", 1, 2))):
        monkeypatch.setattr(alone, "_BUSY", busy)
        network = prepared(Watcher(), images)
        assert network.alone.one_after_another(images) == (busy == 1)
        Watcher.said.clear()
        asked(network, images, truth)
        assert Watcher.said == [expected] * 10


def test_copies_share_the_weights(prepared: Any, textured: Any) -> None:
    images, _ = textured(2)
    door = alone.PerThread(prepared(nn.Conv2d(1, 2, 3, padding=1), images).module)
    copied = alone._pool(2).submit(door.own).result()
    assert copied is not door.network
    assert copied.weight is door.network.weight


def test_a_layer_is_watched_in_the_thread_that_asked(prepared: Any, textured: Any) -> None:
    images, _ = textured(4)
    network = prepared(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 1)), images)
    features = NetworkObjective(network).features(images, "0")
    assert torch.equal(features[2:3], NetworkObjective(network).features(images[2:3], "0"))
    assert features.shape == (4, 3, 12, 12)


def test_a_loss_is_asked_by_one_thread_at_a_time(prepared: Any, textured: Any, known: None) -> None:
    """A plug-in's may note things on itself."""
    images, truth = textured(8)
    inside: list[int] = []

    def noting(logits: Tensor, goal: Goal) -> Tensor:
        inside.append(1)
        threading.Event().wait(0.005)
        assert len(inside) == 1
        inside.pop()
        return pixels(logits, goal)

    network = prepared(Curved(), images)
    NetworkObjective(network).value_and_grad(images, noting, Goal(truth, truth))


def test_what_memory_lacks_for_two_at_once_is_asked_again(
    prepared: Any, textured: Any, known: None
) -> None:
    images, _ = textured(5)
    expected = NetworkObjective(prepared(Curved(), images)).scores(images)
    at_once, guard = [0], threading.Lock()

    class Crowded(Curved):
        strict = False

        def forward(self, images: Tensor) -> Tensor:
            with guard:
                at_once[0] += 1
            threading.Event().wait(0.01)
            crowd = at_once[0]
            with guard:
                at_once[0] -= 1
            if Crowded.strict and crowd > 1:
                raise MemoryError
            return super().forward(images)

    network = prepared(Crowded(), images)
    assert not network.alone.one_after_another(images)
    Crowded.strict = True
    assert torch.equal(NetworkObjective(network).scores(images), expected)
    assert network.largest_batch == 1


def test_what_an_attack_computes_itself_rounds_the_same_in_every_company(
    prepared: Any, textured: Any, run: Any
) -> None:
    """A sum over one case alone is shared out among threads; over several it is not."""

    class Summing(PGD):
        def step(self, context: Any, state: State, feedback: Any) -> State:
            mean = feedback.gradient.flatten(1).mean(1)[:, None, None, None]
            return State(state.images + 1e3 * mean * feedback.gradient)

    images, truth = textured(3, side=256)
    network = prepared(Curved(), images)
    attack = Summing(steps=3, random_start=False)
    together = run(network, attack, images, truth).images
    for n in range(3):
        one = run(network, attack, images[n : n + 1], truth[n : n + 1]).images
        assert torch.equal(one, together[n : n + 1])
