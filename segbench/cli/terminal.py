"""Standard output and error: what others wrote is shown as text, and losing a reader loses no work.

A name from a file may hold the escapes that clear a screen, rename a window or turn a line's order
around; a pipe may close while hours of work are still to be stored; a terminal may know no more
than ASCII. None of that decides what a command does or how it ends.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import click

from segbench.api.texts import plain

__all__ = ["flush", "forgiving_streams", "plain", "say"]


def say(text: str) -> None:
    """A line on standard output."""
    click.echo(plain(text))


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """While this is open ``sys.stdout`` and ``sys.stderr`` can write anything, even to no one."""
    before = sys.stdout, sys.stderr
    sys.stdout = _forgiving(before[0], expendable=False)
    sys.stderr = _forgiving(before[1], expendable=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def flush() -> None:
    """Write out what is still buffered.

    Raises:
        OSError: standard output cannot take it, though its reader is there.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _forgiving(stream: TextIO | None, expendable: bool) -> TextIO:
    if stream is None:  # closed before Python started
        return cast(TextIO, stream)
    with suppress(AttributeError, ValueError, OSError):
        stream.reconfigure(errors="replace")  # type: ignore[attr-defined]
    return cast(TextIO, _Forgiving(stream, expendable))


class _Forgiving:
    """A text stream that goes on, into nothing, when its reader has left.

    Any other failure to write is raised once, unless what is written is ``expendable``.
    """

    def __init__(self, stream: TextIO, expendable: bool) -> None:
        self._stream = stream
        self._expendable = expendable

    def write(self, text: str) -> int:
        """As of any text stream."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """As of any text stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    @property
    def buffer(self) -> Any:
        """None to be had: what is written there would not be forgiven."""
        raise AttributeError("buffer")

    def _give_up(self, error: OSError) -> None:
        """Let what is still buffered, and all that comes, go nowhere."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if not self._expendable and error.errno not in (errno.EPIPE, errno.EINVAL):
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)
