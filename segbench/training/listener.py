"""Who wants to hear how a training goes: a progress bar, a log, a test."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Hears how a training goes."""

    def note(self, message: str) -> None:
        """Something the user should know, in a sentence."""
        ...

    def batch(self, done: int, total: int) -> None:
        """So many batches of this epoch are done."""
        ...

    def epoch(
        self, epoch: int, epochs: int, loss: float, jaccard: float | None, seconds: float
    ) -> None:
        """An epoch, counted from 1, is done and saved; ``jaccard`` None if none is held out."""
        ...


class Silence:
    """A listener that says nothing."""

    def note(self, message: str) -> None:
        """Nothing."""

    def batch(self, done: int, total: int) -> None:
        """Nothing."""

    def epoch(
        self, epoch: int, epochs: int, loss: float, jaccard: float | None, seconds: float
    ) -> None:
        """Nothing."""
