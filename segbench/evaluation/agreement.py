"""What is known of a network's clean scores beside those that came with it."""

from __future__ import annotations

from collections.abc import Iterator

from segbench.evaluation.subject import Subject
from segbench.store.agreements import read_agreement
from segbench.store.workspace import Workspace

_NOT_COMPARED = (
    "its clean Dice was not yet compared with what came with it; segbench inspect, of the same "
    "network, data and workspace, compares it case by case"
)


def agreement(workspace: Workspace, subject: Subject) -> Iterator[str]:
    """What ``segbench inspect`` has found of it, or that it was not asked; a sentence, if any."""
    model = subject.model
    if model.oracle is None:
        return
    fingerprint = subject.data.dataset.fingerprint()
    found = read_agreement(workspace, model.weights_sha256, fingerprint)
    yield found.sentence if found else _NOT_COMPARED
