"""Defences by their specs, such as ``pgd-at:eps=4/255,steps=5``."""

from __future__ import annotations

from segbench.api import Defence
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
    return defence
