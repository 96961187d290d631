"""Whether a network still answers as it did when the rows were made that a run finds.

A network is known by its weights and its code, and by what that imports. What else the code reads,
as a file of settings when it is imported, or what a server gives it, nobody can know of; so before
rows of it are found or added the network is asked once.
"""

from __future__ import annotations

import math
from statistics import fmean

from segbench.engine.network import Network
from segbench.engine.precision import Precision
from segbench.errors import UserError
from segbench.evaluation.batch import Batch, collate
from segbench.evaluation.model_plan import ModelPlan
from segbench.evaluation.score import evaluate_batch
from segbench.evaluation.work import ModelWork
from segbench.store.index import RowIndex

_ROUNDING = 1e-3  # of the score, between two devices; a pixel of a small structure is more
_DRIFT = 1e-4  # of the largest logit, between two answers of one


def require_same_answers(work: ModelWork, plan: ModelPlan, index: RowIndex) -> None:
    """Refuse where a stored clean score is not what the network gives now.

    Whether any stored row is asked for or all are computed anew: rows that are not would stand
    beside those of another network under its name. One case is asked about, the smallest that has
    a score. A network that draws never gives the same, and is let pass.

    Raises:
        UserError: it is another score.
    """
    stored = index.case_means(plan.cells[0][1][0].key)
    entries = [entry for entry in work.subject.data.entries if entry.case_id in plan.known]
    found = [entry for entry in entries if plan.known[entry.case_id].sha256 in stored]
    if not found:
        return
    case_id = min(found, key=lambda entry: math.prod(entry.shape)).case_id
    network, batch = _asked(work, case_id)
    rows = evaluate_batch(network, batch, plan.cells[0][0])
    known = [row["jaccard"] for row in rows if not math.isnan(row["jaccard"])]
    now = fmean(known or [row["accuracy"] for row in rows])
    before = stored[plan.known[case_id].sha256]
    if abs(now - before) > _allowed(network, batch) and not _draws(network, batch):
        raise UserError(
            f"model {plan.name} is not what its stored scores are of: its clean score on case "
            f"{case_id} was {before:.4f} and is {now:.4f}, though its weights, its code and what "
            "that imports are the same (it may read a file, or the environment); its scores of "
            "now belong in another --workspace"
        )


def _asked(work: ModelWork, case_id: str) -> tuple[Network, Batch]:
    """The network, and the case that it is asked about."""
    subject, data = work.subject, work.subject.data
    case = data.dataset.load(case_id)
    work.index.verify(case)
    network = Network(
        subject.name,
        subject.module,
        len(data.dataset.class_names),
        subject.device,
        Precision("fp32", "of a clean score"),
    )
    return network, collate([case], network)


def _allowed(network: Network, batch: Batch) -> float:
    """How far two devices' scores of one case may lie apart: a pixel of each structure may turn."""
    sizes = network.as_masks(batch.truth)[0].flatten(1).sum(1)
    there = sizes[sizes > 0]
    return max(_ROUNDING, float((1 / there).mean())) if len(there) else _ROUNDING


def _draws(network: Network, batch: Batch) -> bool:
    """Whether it answers otherwise each time."""
    first, second = (network.exact_logits(batch.images) for _ in range(2))
    return bool((first - second).abs().amax() > _DRIFT * first.abs().amax())
