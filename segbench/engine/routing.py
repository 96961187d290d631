"""What an image decides in a network without a gradient: which way values go.

Indices of maxima, comparisons, ranks and detached copies follow the image, and no derivative says
so. Where an answer depends on them, an attack by gradients sees a part of the network only and
leaves it more than there is. Many networks have such values and hardly depend on them (the sign in
a hand-written ReLU), so that it is measured: an image is moved a little, once as it is and once
with all those values held where they were. What the answer no longer changes by is the part that no
gradient sees.

Of a kink that part falls with the root of the step (as many values cross it as the step is long,
each by less than the step), of a jump it does not: two steps tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import isnan
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from segbench.engine.memory import is_out_of_memory

STEP = 0.25 / 255
UNSEEN = 0.1
"""Of an answer's change: what is less may be noise of the measurement."""

_LEAVE = {
    "item",
    "tolist",
    "equal",
    "allclose",
    "is_nonzero",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
}
_REFUSALS = (RuntimeError, TypeError, ValueError)
_SURE = 0.8  # at the larger step: a trained U-Net whose ReLUs are comparisons reaches 0.3
_ROUNDING = 1e-6  # of an answer: no more than fp32 makes of its order


class _Held(TorchFunctionMode):
    """Notes what is used without a gradient although the image decides it, or holds it as noted.

    Only where autograd records: within ``torch.autograd.Function`` a network has a backward of its
    own. A tensor is held where it is used; a Python number, of which nothing more is seen, where it
    is made.

    Attributes:
        noted: in the order of use.
        held: whether they are put in place of what the image decides now.
        pauses: above 0, nothing is.
    """

    def __init__(self, noted: list[Any], *, held: bool) -> None:
        super().__init__()
        self.noted, self.held, self.pauses = noted, held, 0
        self._used = 0
        self._decided = WeakTensorKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (args, kwargs or {})
        tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
        if self.pauses or not any(map(self._follows, tensors)):
            return func(*given[0], **given[1])
        name, recording = getattr(func, "__name__", ""), torch.is_grad_enabled()
        if recording and self._decided:
            written = args[0] if args and _writes(name) else None
            given = tree_map(
                lambda leaf: self._rewritten(leaf) if leaf is written else self._holding(leaf),
                given,
            )
        result = func(*given[0], **given[1])
        if recording and name in _LEAVE:
            return self._noted(result, lambda: result)
        for leaf in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(leaf, Tensor) and not leaf.requires_grad:
                self._decided[leaf] = True
        return result

    def _follows(self, tensor: Tensor) -> bool:
        return tensor.requires_grad or tensor in self._decided

    def _holding(self, leaf: Any) -> Any:
        """An argument, as it was noted where the image decides it without a gradient."""
        if not isinstance(leaf, Tensor) or leaf.requires_grad or leaf not in self._decided:
            return leaf
        return self._noted(leaf, leaf.clone)

    def _rewritten(self, leaf: Any) -> Any:
        """What is written into: it stays the very tensor, with what was noted in it."""
        kept = self._holding(leaf)
        if kept is not leaf:
            with torch.no_grad():
                leaf.copy_(kept)
        return leaf

    def _noted(self, value: Any, kept: Callable[[], Any]) -> Any:
        if not self.held:
            self.noted.append(kept())
            return value
        self._used += 1
        return self.noted[self._used - 1]


def unseen_share(
    ask: Callable[[Tensor], Tensor], image: Tensor, seen: Sequence[nn.Module] = ()
) -> float | None:
    """The share of what an answer changes by that no gradient sees; 0 where nothing is hidden.

    None of a network that refuses an image with a gradient: attacks that need one say so.

    Args:
        ask: an image (1, C, *spatial) to logits, the same ones each time.
        image: in [0, 1].
        seen: layers that bring a gradient for what they decide.
    """
    noted: list[Any] = []
    try:
        with _watched(_Held(noted, held=False), seen):
            before = _asked(ask, image)
    except _REFUSALS as error:
        if is_out_of_memory(error):
            raise
        return None
    if not noted:
        return 0.0
    signs = torch.randint(0, 2, image.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def share(step: float) -> float:
        moved = (image + step * signs.to(image)).clamp(0, 1)
        with torch.no_grad():
            whole = ask(moved)
        change = (whole - before).norm()
        if change <= _ROUNDING * before.norm():
            return 0.0
        with _watched(_Held(noted, held=True), seen):
            visible = _asked(ask, moved)
        return float((whole - visible).norm() / change)

    try:
        large = share(4 * STEP)
        if large <= UNSEEN or large >= _SURE:
            return min(large, 1.0)
        small = share(STEP)
        return 1.0 if isnan(large + small) else max(0.0, 2 * small - large)
    except (*_REFUSALS, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return 1.0  # another way altogether, on which what was noted does not fit


def _asked(ask: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Its answer as a gradient would be taken of it, without what that keeps in memory."""
    leaf = image.detach().clone().requires_grad_()
    nothing = torch.empty(0)
    forget = torch.autograd.graph.saved_tensors_hooks(lambda _: nothing, lambda _: nothing)
    with torch.enable_grad(), forget:
        return ask(leaf).detach()


@contextmanager
def _watched(mode: _Held, seen: Sequence[nn.Module]) -> Iterator[None]:
    """The mode on, but within the layers that bring a gradient of their own."""

    def turn(by: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            mode.pauses += by

        return hook

    with ExitStack() as hooks, mode:
        for layer in seen:
            hooks.callback(layer.register_forward_pre_hook(turn(1)).remove)
            hooks.callback(layer.register_forward_hook(turn(-1), always_call=True).remove)
        yield


def _writes(name: str) -> bool:
    """Whether a function of torch writes into its first argument."""
    inplace = name.endswith("_") and not name.endswith("__")
    return inplace or name == "__setitem__" or (name.startswith("__i") and name != "__invert__")
