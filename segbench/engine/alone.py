"""On a CPU every case is computed alone: one thread each, as many cases at once as there are.

The kernels of a batch round as its size has them, and steps along the sign of a gradient make of
one rounding another image: after forty steps on a U-Net the iterates of batches of one and of six
differ in a fifth of their pixels, after twenty on NLCEN in four fifths, and a case's Jaccard by up
to 0.02. So company would decide what comes out, and with it the order, the limit and every
interruption. Alone a case's rows are the same to the bit. A case that is large enough to keep all
threads busy gets them all, one case after another; its rows hold for that number of threads.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Answer = TypeVar("Answer")

KNOWN = ("torch", "segbench", "segbench_models", "monai")
"""Packages whose layers keep nothing between one question and the next, nor outside themselves."""

_BUSY = 64 * 2**20  # bytes that a case keeps for a gradient, per thread that it keeps busy


class PerThread(nn.Module):
    """A frozen network of which each thread has a copy of its own; the parameters are shared.

    A watched layer's hook must hear its own thread alone.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._home = threading.get_ident()
        self._own = threading.local()

    def forward(self, *args: Any) -> Any:
        """The answer of this thread's copy."""
        return self.own()(*args)

    def own(self) -> nn.Module:
        """This thread's copy; the network itself where it was made."""
        if threading.get_ident() == self._home:
            return self.network
        if not hasattr(self._own, "copy"):
            shared = {id(parameter): parameter for parameter in self.network.parameters()}
            self._own.copy = copy.deepcopy(self.network, shared)
        owned: nn.Module = self._own.copy
        return owned


class Alone:
    """How the cases of one network are computed on a CPU.

    Args:
        network: the original, to see whether copies of it answer at once as it does.
        pair: two images (2, C, *spatial) that differ.
        kept: the bytes that a gradient of a case of such images (1, C, *spatial) keeps.
    """

    def __init__(self, network: PerThread, pair: Tensor, kept: Callable[[Tensor], int]) -> None:
        self._network, self._pair, self._kept = network, pair, kept
        self._threads = torch.get_num_threads()
        self._alike: dict[torch.Size, bool] = {}

    def one_after_another(self, images: Tensor) -> bool:
        """Whether each case of such images gets all threads: it is large, or cannot do with one."""
        shape = images.shape[1:]
        if shape not in self._alike:
            self._alike[shape] = (
                is_tiled(self._network)
                or self._kept(images[:1]) >= _BUSY * self._threads
                or not self._bears_company
            )
        return self._alike[shape]

    def answers(self, ask: Callable[[slice], Answer], images: Tensor, at: range) -> list[Answer]:
        """``ask`` about each of some cases alone; they may be asked about at once."""
        singles = [slice(n, n + 1) for n in at]
        if self._threads == 1 or self.one_after_another(images):
            with _on_threads(self._threads):
                return [ask(single) for single in singles]
        asked = [_pool(self._threads).submit(ask, single) for single in singles]
        try:
            wait(asked, return_when=FIRST_EXCEPTION)
        finally:
            for answer in asked:
                answer.cancel()
        wait(asked)  # whoever asks again after an error has the memory of those in hand
        return [answer.result() for answer in asked]

    @functools.cached_property
    def _bears_company(self) -> bool:
        """Whether copies of the network may be asked at once.

        Not of code that nobody here knows: what that keeps, and where, cannot be seen from outside.
        Of the rest the copies must answer as the network itself does, to the bit.
        """

        def answer(place: int) -> list[Tensor]:
            with torch.no_grad():
                return _tensors(self._network(self._pair[place % 2, None].clone()))

        if self._threads == 1:
            return True
        if not is_known(self._network.network):
            return False
        pool = _pool(self._threads)
        try:
            together = list(pool.map(answer, range(2 * min(self._threads, 4))))
        except Exception:  # whatever a copy raises, the network itself serves
            return False
        with _on_threads(1):
            own = [answer(place) for place in range(2)]
        pairs = [
            pair for n, some in enumerate(together) for pair in zip(some, own[n % 2], strict=True)
        ]
        return bool(pairs) and all(torch.equal(*pair) for pair in pairs)


def is_tiled(network: nn.Module) -> bool:
    """Whether it asks itself tile after tile, and holds the memory of one."""
    return any(getattr(part, "tiled", False) for part in network.modules())


def is_known(network: nn.Module) -> bool:
    """Whether every layer is of a package of ``KNOWN``, as it was written, and without hooks."""
    return all(_is_known(part) for part in network.modules())


def _is_known(layer: nn.Module) -> bool:
    if isinstance(layer, torch.jit.ScriptModule) or getattr(layer, "hides_layers", False):
        return False
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    if any(hooks) or "forward" in vars(layer):
        return False
    return type(layer).__module__.partition(".")[0] in KNOWN


@contextmanager
def one_thread() -> Iterator[None]:
    """What is computed beside the network, where a sum rounds by the number of threads."""
    with _on_threads(1):
        yield


@contextmanager
def _on_threads(count: int) -> Iterator[None]:
    here = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(here)


def _tensors(answer: Any) -> list[Tensor]:
    """The tensors of what a network returned, be it one or several."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return [tensor for part in answer for tensor in _tensors(part)]
    return [answer] if isinstance(answer, Tensor) else []


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads of one core each, for the rest of the process."""
    here = torch.get_num_threads()
    started = threading.Barrier(threads)
    pool = ThreadPoolExecutor(threads, "case", _take_one_core)
    list(pool.map(lambda _: started.wait(), range(threads)))
    torch.set_num_threads(here)  # what was said last holds for the threads that others start
    return pool


def _take_one_core() -> None:
    torch.get_num_threads()  # the first word of a thread to torch undoes what was set before
    torch.set_num_threads(1)
