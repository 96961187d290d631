"""Networks that must know more of a case than its image, and the copies that must know it too."""

from __future__ import annotations

from torch import nn

from segbench.api import Case, MeetsCases
from segbench.errors import MachineError, UserError


def meets_cases(network: nn.Module) -> bool:
    """Whether the network, or a part of it, must be told of every case."""
    return any(_meets(part) for part in network.modules())


def _meets(part: nn.Module) -> bool:
    """Whether this part is ``MeetsCases``; ``isinstance`` looks through the protocol each time."""
    return getattr(part, "meet", None) is not None


def tell(network: nn.Module, case: Case) -> None:
    """Tell a network, or a copy of one in whatever it is wrapped, which case comes next.

    A network passes on to its own parts what they must know.

    Raises:
        UserError: what it raises of that kind.
        MachineError: it failed in any other way.
    """
    if isinstance(network, MeetsCases):
        try:
            network.meet(case)
        except (UserError, MachineError):
            raise
        except Exception as error:  # a network may fail in any way
            words = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise MachineError(
                f"it failed when it was told of case {case.case_id}: {words}"
            ) from error
        return
    for part in network.children():
        tell(part, case)
