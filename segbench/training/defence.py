"""Defences by their specs, such as ``pgd-at:eps=4/255,steps=5``."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from segbench.api import Defence
from segbench.engine.memory import is_out_of_memory
from segbench.errors import MachineError, UserError
from segbench.plugins import registry, spec


def named_defence(text: str) -> spec.Spec:
    """The spec of a defence that can be made.

    Raises:
        UserError: there is none of that name, or a parameter is unknown or out of range.
        MachineError: the plug-in fails, or breaks its contract.
    """
    load_defence(text)
    return spec.parse(text)


def load_defence(text: str) -> Defence:
    """The defence that a spec means.

    Raises:
        UserError, MachineError: see ``named_defence``.
    """
    parsed = spec.parse(text)
    plugin = registry.load("defences", parsed.name)
    values = spec.bind(plugin.factory, parsed)
    try:
        defence: Defence = plugin.factory(**values)
    except UserError as error:
        raise UserError(f"{parsed.name}: {error}") from error
    except Exception as error:
        raise MachineError(
            f"defence {text!r} of {plugin.distribution} failed to start: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(defence, Defence):
        raise MachineError(f"defence {parsed.name} of {plugin.distribution} has no losses")
    return defence


def checked(losses: Iterator[Tensor], defence: str) -> Iterator[Tensor]:
    """The losses of a batch, each a finite number with a gradient, at least one.

    Raises:
        MachineError: they are not, or the defence fails; it is named.
    """
    count, items = 0, iter(losses)
    while True:
        try:
            loss = next(items)
        except StopIteration:
            break
        except (UserError, MachineError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise MachineError(
                f"defence {defence} failed: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(loss, Tensor) or loss.shape != () or not loss.requires_grad:
            raise MachineError(f"defence {defence} gave no loss; expected one number with gradient")
        count += 1
        yield loss
    if not count:
        raise MachineError(f"defence {defence} gave no loss for a batch; expected one or more")
