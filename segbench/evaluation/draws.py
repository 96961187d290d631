"""Draws of a network under noise, counted: how often each class was answered at every place.

Every draw is a pure function of the seed, the case's content and the draw's number, whatever the
batch, the order or the worker; under every sigma it is the same one, scaled. The noise may leave
the pixel range: what is smoothed is the network on all images, and a network that clips its input
is one such. All answers are those of the original network in fp32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from segbench import __version__
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.evaluation.batch import Batch
from segbench.evaluation.certificate import RULES
from segbench.evaluation.costs import Sums
from segbench.evaluation.score import answers, refuse_nan
from segbench.store.records import KEY_DIGITS, digest
from segbench.store.votes import Ballot, Phase

if TYPE_CHECKING:
    from segbench.store.workspace import Workspace

_AT_ONCE, _NUMBERS = 20, 2**24  # draws in one batch, and numbers of their images
_SAVING = 10  # drawing goes on for so many times as long as saving took
_SAYING = 5.0  # seconds between two words on how far it is
_FIRST = {"choice": 10**9, "test": 2 * 10**9}  # draws that no attack makes


@dataclass(frozen=True)
class _Asked:
    """Votes that are wanted: of one case under one noise, from that seed's draws of a phase."""

    batch: Batch
    noise: CaseNoise
    sigma: float
    ballot: Ballot


class Draws:
    """The votes of one network's draws, those that its workspace keeps and those that are missing.

    Args:
        network: it, as the engine asks it.
        sha256: what it is known by.
        workspace: where votes are kept.
        fresh: whether what was kept before is drawn again.
        busy: told, now and then, how far it is.
    """

    def __init__(
        self,
        network: Network,
        sha256: str,
        workspace: Workspace,
        *,
        fresh: bool,
        busy: Callable[[str], None],
    ) -> None:
        self.network, self._sha256, self._workspace = network, sha256, workspace
        self._fresh, self._busy = fresh, busy
        self._drawn: set[Ballot] = set()
        self._made = Sums()

    def votes(self, batch: Batch, seed: int, sigma: float, phase: Phase, draws: int) -> Tensor:
        """How often each class was answered, (K, *places), in the first draws of a phase.

        Of structures that overlap (2, S, *spatial). The integers are the smallest that hold it.

        Args:
            batch: of one case.
            seed: of the draws.
            sigma: standard deviation of the noise.
            phase: ``choice`` and ``test`` have no draw in common.
            draws: how many.

        Raises:
            UserError: the network answers with NaN.
            MachineError: the disk refused.
        """
        facts = {"network": self._sha256, "engine": __version__, "rules": RULES}
        key = digest({**facts, "sigma": sigma, "seed": seed})[:KEY_DIGITS]
        ballot = Ballot(self._workspace, key, batch.contents[0], phase)
        stale = self._fresh and ballot not in self._drawn
        kept = None if stale else ballot.load(draws)
        done, votes = kept or (0, None)
        if votes is not None:
            votes = votes.to(self.network.device, _counter(draws))
        if votes is None or done < draws:
            asked = _Asked(batch, batch.noise(seed), sigma, ballot)
            votes = self._draw(asked, done, votes, draws)
        self._drawn.add(ballot)
        return votes

    def take_made(self) -> Sums:
        """What was drawn since the last time that somebody asked."""
        made, self._made = self._made, Sums()
        return made

    def _draw(self, asked: _Asked, start: int, votes: Tensor | None, draws: int) -> Tensor:
        """The votes with those of the draws from ``start`` on, which are kept as they come."""
        begun = saved = said = time.monotonic()
        step, lasted = _at_once(self.network, asked.batch.images), 0.0
        counted = start, votes  # one name, so that no interruption parts the two
        try:
            while counted[0] < draws:
                done, stop = counted[0], min(draws, (counted[0] // step + 1) * step)
                more = self._count(asked, range(done, stop), _counter(draws))
                counted = stop, more if counted[1] is None else counted[1] + more
                now = time.monotonic()
                if now - said >= _SAYING:
                    self._busy(f"{asked.batch.case_ids[0]}: {stop} of {draws} draws")
                    said = now
                if stop < draws and now - saved >= _SAVING * lasted:
                    self._keep(asked, counted, finished=False)
                    saved = time.monotonic()
                    lasted = saved - now
        except BaseException:
            if start < counted[0] < draws:
                self._keep(asked, counted, finished=False)
            raise
        self._keep(asked, counted, finished=True)
        last = asked.ballot.phase == "test"
        made = Sums(int(last), time.monotonic() - begun, forwards=draws - start)
        self._made += made
        assert counted[1] is not None
        return counted[1]

    def _keep(self, asked: _Asked, counted: tuple[int, Tensor | None], *, finished: bool) -> None:
        done, votes = counted
        assert votes is not None
        asked.ballot.save(done, votes, finished=finished)

    def _count(self, asked: _Asked, numbers: range, kind: torch.dtype) -> Tensor:
        """The votes (K, *places) of some draws."""
        first, network = _FIRST[asked.ballot.phase], self.network
        labels = self._labels(asked, [first + number for number in numbers])
        classes = 2 if network.structures else network.classes
        return torch.stack([(labels == label).sum(0).to(kind) for label in range(classes)])

    def _labels(self, asked: _Asked, numbers: Sequence[int]) -> Tensor:
        """The labels (D, *places) of the case under the draws of those numbers."""
        network, batch = self.network, asked.batch
        shape = batch.images.shape[1:]
        drawn = torch.cat([asked.noise.normal(number, shape) for number in numbers])
        network.meet(batch.cases)
        if network.one_by_one:  # what it draws itself is another with every draw
            torch.manual_seed(asked.noise.torch_seed(numbers[0]))
        logits = answers(network, batch.images + asked.sigma * drawn, batch)
        refuse_nan(logits, network, batch)
        return network.as_labels(logits)


def _at_once(network: Network, images: Tensor) -> int:
    """Draws that share a batch; it depends on the network and the shape alone."""
    if network.one_by_one:
        return 1
    return max(1, min(_AT_ONCE, _NUMBERS // images.numel()))


def _counter(draws: int) -> torch.dtype:
    """The smallest integers that hold so many votes."""
    if draws <= torch.iinfo(torch.uint8).max:
        return torch.uint8
    return torch.int16 if draws <= torch.iinfo(torch.int16).max else torch.int32
