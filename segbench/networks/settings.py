"""What a layer was built with besides its weights, as text: settings, wherever it keeps them.

A number, a list, a tensor that no state dict holds, a configuration object: two networks of the
same weights and code that differ in one of these are two networks.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Set
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from segbench.plugins.bytecode import HOLDERS, describe_numbers, held_values, is_array

if TYPE_CHECKING:
    from torch import nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def layer_settings(layer: nn.Module) -> list[str]:
    """Every attribute that is not torch's own bookkeeping, and the buffers no state dict has."""
    from torch import nn

    of_torch = vars(nn.Module()).keys()
    unsaved = {name: layer._buffers.get(name) for name in layer._non_persistent_buffers_set}
    own = {name: value for name, value in vars(layer).items() if name not in of_torch}
    text = _Text()
    return [f"{name}={text.of(value)}" for name, value in sorted((own | unsaved).items())]


class _Text:
    """Values as text that is the same in every process."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}  # values are kept, so no id is used twice

    def of(self, value: Any) -> str:
        """A value; of one within itself, its class alone."""
        if isinstance(value, _PLAIN):
            return repr(value)
        kind = type(value).__qualname__
        if id(value) not in self._known:
            self._known[id(value)] = value, kind
            self._known[id(value)] = value, f"{kind}({', '.join(self._parts(value))})"
        return self._known[id(value)][1]

    def _parts(self, value: Any) -> Iterator[str]:
        from torch import nn

        if is_array(value):
            yield describe_numbers(value)
        elif isinstance(value, Mapping):
            yield from [f"{self.of(key)}: {self.of(item)}" for key, item in value.items()]
        elif isinstance(value, (list, tuple)):
            yield from map(self.of, value)
        elif isinstance(value, Set):
            yield from sorted(map(self.of, value))
        elif isinstance(value, (type, FunctionType, MethodType, functools.partial)):
            yield from self._code(value)
        elif isinstance(value, nn.Module):  # one that torch was not told of, as in a list
            yield from [self.of(part) for part in (value._parameters, value._buffers)]
            yield from layer_settings(value)
            yield self.of(value._modules)
        elif isinstance(value, HOLDERS) or not _is_machinery(value):
            yield from [f"{name}={self.of(item)}" for name, item in held_values(value)]
        elif type(value).__module__ == "torch":  # a dtype or a device
            yield str(value)

    def _code(self, value: Any) -> Iterator[str]:
        """Its name, and the values that were bound to it; its source counts elsewhere."""
        if isinstance(value, functools.partial):
            yield from map(self.of, (value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            yield value.__func__.__qualname__
            yield self.of(value.__self__)
        else:
            yield value.__qualname__
        if isinstance(value, FunctionType):
            yield self.of((value.__defaults__, value.__kwdefaults__))
            cells = [cell for cell in value.__closure__ or () if cell != CellType()]
            yield from [self.of(cell.cell_contents) for cell in cells]


def _is_machinery(value: Any) -> bool:
    """Whether it is an object of Python's own or of torch's."""
    top = type(value).__module__.partition(".")[0]
    return top == "torch" or top in sys.stdlib_module_names
