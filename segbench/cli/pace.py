"""How fast a grid goes, and how long it has left: from its plan and what was measured so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Pace:
    """Seconds, scores and gradients of a running grid.

    A clean score takes a moment and one of an attack its gradients, so time left is summed over
    kinds of cells, each at its own pace; one that has not begun goes at that of the slowest.

    Attributes:
        planned: scores of the whole grid, by what cells are called.
    """

    planned: Mapping[str, int]
    gradients: int = 0
    _scores: dict[str, int] = field(default_factory=dict)
    _found: dict[str, int] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=lambda: time.monotonic())

    def begin(self) -> None:
        """Work on cases begins, after whatever was before it."""
        self._since = time.monotonic()

    def cases(self, label: str, computed: int, found: int) -> None:
        """So many scores of such a cell are there."""
        now = time.monotonic()
        if computed:
            self._scores[label] = self._scores.get(label, 0) + computed
            self._seconds[label] = self._seconds.get(label, 0.0) + now - self._since
        self._found[label] = self._found.get(label, 0) + found
        self._since = now

    @property
    def rate(self) -> float:
        """Gradients per second so far; 0 before there are any."""
        seconds = sum(self._seconds.values())
        return self.gradients / seconds if seconds else 0.0

    @property
    def left(self) -> float | None:
        """Seconds; None while nothing is known."""
        paces = {label: self._seconds[label] / scores for label, scores in self._scores.items()}
        if not paces:
            return None
        slowest = max(paces.values())
        found = sum(self._found.values())  # of whichever cells; the store names none
        remaining = {
            label: max(0, count - self._scores.get(label, 0))
            for label, count in self.planned.items()
        }
        whole = sum(remaining.values()) or 1
        share = max(0.0, 1 - found / whole)
        return share * sum(count * paces.get(label, slowest) for label, count in remaining.items())

    def said(self) -> str:
        """``12 gradients/s, 3 min left``."""
        parts = [f"{self.rate:.3g} gradients/s"] * bool(self.rate)
        left = self.left
        if left is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
