"""The two ways a command fails: the user's input (exit status 2) or the machine (3)."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """The input is wrong: the message names the value, what was expected, and what to do."""


class MachineError(Exception):
    """The machine or a plug-in failed: disk, memory, a crash that is not the user's doing."""


class ContractError(Exception):
    """A plug-in is not what its kind must be: the message names the member and what was expected.

    Whoever knows the plug-in's name says it too, in a :class:`MachineError`.
    """


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end; whatever is being written is cleaned up on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def name(self) -> str:
        """For example ``SIGTERM``."""
        return signal.Signals(self.number).name


@contextmanager
def named(what: str) -> Iterator[None]:
    """What fails in this block says of what: ``model NAME`` begins its sentence."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    except MachineError as error:
        raise MachineError(f"{what}: {error}") from error


@contextmanager
def no_exit(who: str) -> Iterator[None]:
    """Code that is not segbench's runs in this block, and may not end the process.

    Raises:
        MachineError: it tried to; ``who`` begins the sentence.
    """
    try:
        yield
    except SystemExit as stop:
        raise MachineError(f"{who} tried to end the process (SystemExit: {stop.code})") from stop
