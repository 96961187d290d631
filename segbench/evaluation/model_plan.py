"""What of one network's part of a grid is missing, in pieces, and what that is expected to cost.

A plan outlives its network: the memory of many networks is not needed to plan for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segbench.api import FittedAttack, StatesGradients, StepAttack, TransferAttack
from segbench.evaluation.asked import describe_asked
from segbench.evaluation.case_index import Known
from segbench.evaluation.cell_keys import View
from segbench.evaluation.constants import answer_names
from segbench.evaluation.costs import FORWARD, Costs, Estimate, Kind
from segbench.evaluation.grid import Cell
from segbench.evaluation.pieces import Piece
from segbench.evaluation.work import ModelWork
from segbench.plugins.attack import NamedAttack
from segbench.store.images import kept_cases
from segbench.store.index import RowIndex
from segbench.store.records import digest
from segbench.store.runs import Asked

_GRADIENTS = 100.0  # of an attack that says nothing of its steps


class Part(Protocol):
    """A part of a grid, of several that together are the whole."""

    def has(self, model: str) -> bool:
        """Whether anything of a network may belong to it."""
        ...

    def own(self, plan: ModelPlan, cell: int) -> set[str]:
        """The cases of a cell that belong to it.

        Raises:
            UserError: it is a part of something else.
        """
        ...


@dataclass(frozen=True, eq=False)
class ModelPlan:
    """One network's part of a grid, without the network.

    Attributes:
        name: of the network in its run.
        network: its SHA-256.
        place: the network's among those of the run.
        cells: each with its views, the clean one first.
        known: every case that can be read.
        groups: their ids, in groups of one shape, each with the shape.
        asked: what the run's record says of it.
        answers: see ``answer_names``.
        kept: the cells whose images are to be kept here.
        images: of each cell the key under which its images may be kept.
        measured: see ``LoadedModel``.
    """

    name: str
    network: str
    place: int
    cells: Sequence[tuple[Cell, Sequence[View]]]
    known: Mapping[str, Known]
    groups: Sequence[tuple[tuple[int, ...], Sequence[str]]]
    asked: Asked
    answers: Sequence[str]
    kept: frozenset[int]
    images: Sequence[str]
    measured: Mapping[str, float] = field(default_factory=dict)
    _measured_as: dict[NamedAttack, str] = field(default_factory=dict)

    def is_fitted(self, cell: int) -> bool:
        """Whether the cell's attack learns of other cases first."""
        return isinstance(self._attack(cell), FittedAttack)

    def kind(self, cell: int, shape: tuple[int, ...], place: str) -> Kind:
        """What a case of the cell is to be measured as."""
        named, certificate = self.cells[cell][0].attack, self.cells[cell][0].certificate
        if certificate is not None:
            what = f"{certificate.label} {digest(certificate.facts)[:16]}"
            return Kind(self.network, place, shape, what)
        if named is None:
            return Kind(self.network, place, shape)
        direct = isinstance(named.attack, FittedAttack | TransferAttack)
        if named not in self._measured_as:
            facts = digest({"label": named.label, "parameters": named.parameters_text})
            self._measured_as[named] = f"{named.label} {facts[:16]}"
        return Kind(self.network, place, shape, self._measured_as[named], direct)

    def estimate(self, costs: Costs, piece: Piece, place: str) -> Estimate:
        """What a case of a piece is expected to cost."""
        kind = self.kind(piece.cell, piece.shape, place)
        return costs.case(kind, declared_gradients(self.cells[piece.cell][0]))

    def _attack(self, cell: int) -> object:
        named = self.cells[cell][0].attack
        return named.attack if named else None


def declared_gradients(cell: Cell) -> float:
    """What a case of the cell costs at most by the attack's own word, or a guess where it has none.

    What an attack by steps only asks, without a gradient, counts as well.
    """
    attack: object = cell.attack.attack if cell.attack else None
    if cell.certificate:
        return FORWARD * (cell.certificate.n0 + cell.certificate.n)
    if isinstance(attack, StatesGradients):
        return float(attack.gradients)
    if isinstance(attack, StepAttack):
        plan = attack.plan(cell.budget)
        return float(max(1, plan.steps * plan.restarts))
    steps = cell.attack.parameters.get("steps") if cell.attack else None
    return float(steps) if isinstance(steps, int) else _GRADIENTS


def plan_model(work: ModelWork, place: int) -> ModelPlan:
    """What is to be known of a loaded network's part once it is no longer loaded."""
    shards = work.cases.shards
    groups = [(s[0].shape, [e.case_id for e in s if e.case_id in work.known]) for s in shards]
    own = (work.images_key(cell, views) for cell, views in work.cells)
    return ModelPlan(
        work.subject.name,
        work.subject.sha256,
        place,
        work.cells,
        work.known,
        groups,
        describe_asked(work.subject, work.keys, work.known),
        answer_names(work.cases.load(0)[0]),
        frozenset(n for n, (cell, _) in enumerate(work.cells) if work.keeps(cell)),
        tuple(own),
        work.subject.model.measured,
    )


@dataclass(frozen=True, eq=False)
class Missing:
    """What of a plan has no rows yet.

    Attributes:
        pieces: that, each of one cell and one shape.
        scores: (case, view) pairs of all of the part.
        found: how many of them the store has.
        begun: the cells of which a case has all that it is to have.
        damaged: a sentence for every file of the store that cannot be read.
    """

    pieces: Sequence[Piece]
    scores: int
    found: int
    begun: frozenset[int]
    damaged: Sequence[str]


def find_missing(
    work: ModelWork,
    plan: ModelPlan,
    part: Part | None,
    index: RowIndex,
    recent: Collection[int] = (),
) -> Missing:
    """What of a plan, or of a part of it, is still to be computed.

    Args:
        work: the network, still loaded.
        plan: of it.
        part: None for all of it.
        index: of the work's store, for all networks that are asked of.
        recent: the runs whose rows are not computed anew where everything else is.
    """
    damaged: list[str] = []
    done = _done(work, plan, index, damaged, recent)
    counts = np.array([len(views) for _, views in plan.cells])
    starts = np.cumsum(counts) - counts
    over = np.logical_and.reduceat(done.all(1), starts)  # of a hundred thousand nothing is made
    over[sorted(plan.kept)] = False
    if part is not None:
        over[:] = False
    found = int(counts[over].sum()) * len(plan.known)
    pieces, total, begun = [], found, {*np.flatnonzero(over).tolist()}
    for place in np.flatnonzero(~over).tolist():
        views = plan.cells[place][1]
        here = slice(starts[place], starts[place] + len(views))
        own = part.own(plan, place) if part else set(plan.known)
        lacking = _lacking(work, plan, place, done[here], own)
        total += len(own) * len(views)
        found += len(own) * len(views) - sum(map(len, lacking.values()))
        if own - lacking.keys():
            begun.add(place)
        for shape, group in plan.groups if not plan.is_fitted(place) else _whole(plan):
            some = {name: lacking[name] for name in group if name in lacking}
            if some:
                keys = tuple(view.key for view in views)
                fitted, images = plan.is_fitted(place), plan.images[place]
                pieces.append(Piece(plan.name, place, keys, some, fitted, shape, images))
    return Missing(pieces, total, found, frozenset(begun), damaged)


def _done(
    work: ModelWork,
    plan: ModelPlan,
    index: RowIndex,
    damaged: list[str],
    recent: Collection[int],
) -> NDArray[np.bool_]:
    """Whether each view of every cell has all that is asked for of each case, (views, cases)."""
    cases, options = plan.known.values(), work.options
    runs = recent if options.fresh else None
    if runs is not None and not runs:
        return np.zeros((len(work.keys), len(cases)), bool)
    wanted = {}
    if options.boundary:
        wanted["nsd_tolerance"] = [case.nsd_tolerance for case in cases]
    if options.lesions is not None:
        wanted["lesion_overlap"] = [options.lesions] * len(cases)
    contents, scored = [case.sha256 for case in cases], _scored_views(work)
    # Certificates, which come last, have what all have and no more.
    done = index.finished(work.keys[:scored], contents, wanted, damaged, runs)
    if scored == len(work.keys):
        return done
    proved = index.finished(work.keys[scored:], contents, None, [], runs)
    return np.concatenate([done, proved])


def _scored_views(work: ModelWork) -> int:
    return sum(len(views) for cell, views in work.cells if not cell.certificate)


def _whole(plan: ModelPlan) -> list[tuple[tuple[int, ...], Sequence[str]]]:
    """All cases as one group; a fit takes one shape alone."""
    return [(plan.groups[0][0], list(plan.known))]


def _lacking(
    work: ModelWork, plan: ModelPlan, place: int, done: NDArray[np.bool_], own: Set[str]
) -> dict[str, tuple[int, ...]]:
    """Case id -> the views that lack its rows; none where only its images are to be kept.

    Args:
        work: the network.
        plan: of it.
        place: of the cell.
        done: (views, cases) of the cell.
        own: the cases of this part of the grid.
    """
    lacking = {
        name: tuple(np.flatnonzero(~done[:, column]).tolist())
        for column, name in enumerate(plan.known)
        if name in own
    }
    unkept: set[str] = set()
    if place in plan.kept:
        key = plan.cells[place][1][0].key
        kept = kept_cases(work.workspace, key)
        unkept = {name for name in own if plan.known[name].sha256 not in kept}
    return {name: lack for name, lack in lacking.items() if lack or name in unkept}
