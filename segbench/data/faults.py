"""Bad files, collected so that the user sees all of them at once and not one per attempt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from segbench.errors import UserError

NAMED = 100  # a longer list is counted, not printed


class BadFileError(UserError):
    """One file cannot be used; the message names it and says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{short_name(path)} {reason}")


@dataclass
class Faults:
    """What is wrong with the files of one data set, one phrase per file.

    Attributes:
        notes: what is left out on purpose, in sentences for the user.
    """

    root: Path
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, path: Path, reason: str) -> None:
        """Note that the file at ``path`` cannot be used; ``reason`` continues its name."""
        self.found.append(f"{short_name(path)} {reason}")

    def catch(self, error: BadFileError) -> None:
        """Note a file whose reading failed."""
        self.found.append(str(error))

    def note(self, sentence: str) -> None:
        """Note what is left out, and is no fault."""
        self.notes.append(sentence)

    def raise_any(self, what: str = "this data") -> None:
        """End here if there is any fault; ``what`` the files are.

        Raises:
            UserError: the first hundred faults, and how many more there are.
        """
        if self.found:
            raise UserError(f"{self.root}: cannot use {what}: {listed(self.found)}")


def listed(faults: Iterable[str]) -> str:
    """The first hundred of them, each once, and how many more there are.

    Every slice of a volume may have the same to say of its one file.
    """
    found = list(dict.fromkeys(faults))
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + more


def short_name(path: Path) -> str:
    """A file with the folder it lies in, which tells an image from its mask."""
    return f"{path.parent.name}/{path.name}"
