"""Votes of draws that are kept, so that no draw is made twice: of a case, how often each class won.

<workspace>/certified/<key>/
    <case>-<phase>-<draws>.safetensors         votes of the first so many draws, all that were asked
    <case>-<phase>-<draws>.part.safetensors    the same of a certificate that is not finished

Draws are numbered, and the key holds all that decides what one gives. Only a memory: a file that is
damaged is as good as none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segbench.atomic import remove
from segbench.errors import UserError
from segbench.store.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from segbench.store.workspace import Workspace

Phase = Literal["choice", "test"]
_VOTES, _DIGITS = "votes", 32
_NAME = re.compile(r"(?P<draws>\d+)(?P<part>\.part)?\.safetensors")


@dataclass(frozen=True)
class Ballot:
    """The votes of one case in one phase.

    Attributes:
        key: of the network, its noise and its seed.
        content: ``Case.sha256``.
        phase: of which draws.
    """

    workspace: Workspace
    key: str
    content: str
    phase: Phase

    def load(self, most: int) -> tuple[int, Tensor] | None:
        """The votes of as many draws as are kept, up to ``most``, and how many; None of none."""
        self.workspace.refresh(self._folder)
        for draws, path in sorted(self._files(), reverse=True):
            if draws <= most:
                try:
                    loaded = load_tensors(path)
                except UserError:
                    continue
                if loaded is not None and _VOTES in loaded[0]:
                    return draws, loaded[0][_VOTES]
        return None

    def save(self, draws: int, votes: Tensor, *, finished: bool) -> None:
        """Keep the votes (K, *places) of the first ``draws`` draws; parts before them go.

        Raises:
            MachineError: the disk refused.
        """
        name = f"{self._stem}{draws}{'' if finished else '.part'}.safetensors"
        save_tensors(self._folder / name, {_VOTES: votes}, {})
        for fewer, path in self._files():
            if fewer <= draws and path.name.endswith(".part.safetensors") and path.name != name:
                remove(path)

    @property
    def _folder(self) -> Path:
        return self.workspace.certified / self.key

    @property
    def _stem(self) -> str:
        return f"{self.content[:_DIGITS]}-{self.phase}-"

    def _files(self) -> Iterator[tuple[int, Path]]:
        for path in self._folder.glob(f"{self._stem}*.safetensors"):
            if match := _NAME.fullmatch(path.name.removeprefix(self._stem)):
                yield int(match["draws"]), path
