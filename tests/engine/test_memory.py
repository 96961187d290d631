"""Too little memory is known by whatever a library calls it; one case at a time is enough."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Curved

from segbench.engine import memory
from segbench.engine.batching import choose_batch_size
from segbench.engine.memory import is_out_of_memory
from segbench.engine.objective import NetworkObjective
from segbench.errors import MachineError
from segbench.networks.adapt import adapt_network
from segbench.plugins.attack import load_attack


class AcceleratorError(RuntimeError):
    """As torch raises it, with CUDA's number of the error."""

    def __init__(self, number: int) -> None:
        super().__init__("CUDA error: something with an unknown text")
        self.error_code = number


LACKS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
    RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
    MemoryError("Unable to allocate 4.00 GiB for an array"),
    AcceleratorError(2),
]
OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    RuntimeError("CUDA error: device-side assert triggered"),
    AcceleratorError(710),
    ValueError("out of memory"),
    KeyError("out of memory"),
]


def said(error: BaseException) -> str:
    return f"{type(error).__name__} {error}"


@pytest.mark.parametrize("error", LACKS, ids=said)
def test_a_lack_of_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHERS, ids=said)
def test_nothing_else_is_taken_for_one(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_free_memory_is_within_every_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.free_bytes()
    assert 2**20 < free < 2**50
    monkeypatch.setattr(memory, "_free_of_group", lambda: 12_345)
    assert memory.free_bytes() == 12_345
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**50, -1))
    assert 0 < memory._free_of_process() < 2**50
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1, -1))
    assert memory.free_bytes() == 0


def test_the_cpus_own_allocator_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2**60)
    assert is_out_of_memory(caught.value)


class Tight(Curved):
    """A network for which the machine has memory for so many cases, and fails so beyond."""

    error: Exception = MemoryError()
    largest = 1

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.largest:
            raise self.error
        return super().forward(images)


def tight(error: Exception, largest: int = 1) -> Tight:
    network = Tight()
    network.error, network.largest = error, largest
    return network


@pytest.mark.parametrize("largest", [1, 2, 3])
@pytest.mark.parametrize("error", LACKS, ids=said)
def test_a_network_that_fits_one_case_is_attacked_as_any_other(
    error: Exception, largest: int, sharing: Any, run: Any, textured: Any
) -> None:
    images, truth = textured(5)
    attack = load_attack("pgd:steps=3").attack
    roomy = run(sharing(Curved(), images), attack, images, truth)
    network = sharing(tight(error, largest), images)
    assert choose_batch_size(network, images[:1]) >= 1
    found = run(network, attack, images, truth)
    torch.testing.assert_close(found.images, roomy.images, atol=1e-6, rtol=0)
    assert (found.forwards, found.backwards) == (roomy.forwards, roomy.backwards)
    assert network.marks == ()
    assert network.largest_batch == (1 if largest == 1 else 2)


def test_a_network_that_fits_no_case_is_the_machines_failure(prepared: Any, textured: Any) -> None:
    images, _ = textured(2)
    for error in LACKS:
        with pytest.raises(MachineError, match="not even with one image of shape"):
            prepared(tight(error, 0), images)


@pytest.mark.parametrize("error", LACKS, ids=said)
def test_a_strangers_network_is_adapted_on_one_case_where_only_one_fits(error: Exception) -> None:
    class Odd(nn.Module):
        """Needs sizes that are multiples of 4, and answers with probabilities in a list."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> list[Tensor]:
            assert not any(size % 4 for size in images.shape[2:])
            return [self.inner(images).softmax(1)]

    shapes = [(1, 10, 12), (1, 8, 8)]
    roomy, found = (adapt_network(Odd(n), shapes) for n in (Curved(), tight(error)))
    assert (found.stride, found.place, found.probabilities) == (4, (0,), "softmax")
    assert (roomy.stride, roomy.place, roomy.probabilities) == (4, (0,), "softmax")
    with pytest.raises(MachineError, match="not even with one image"):
        adapt_network(Odd(tight(error, 0)), shapes)


def test_a_size_that_was_too_large_is_remembered(sharing: Any, textured: Any) -> None:
    images, _ = textured(4)
    network = sharing(tight(LACKS[1]), images)
    sizes: list[int] = []
    network.module.register_forward_pre_hook(lambda _m, inputs: sizes.append(len(inputs[0])))
    NetworkObjective(network).scores(images)
    assert sizes == [1] * 4
