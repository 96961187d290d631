"""From a network and its data to a diagnosis: loaded, prepared, compared with its neighbours."""

from __future__ import annotations

from fractions import Fraction
from importlib.metadata import version

from segbench import __version__
from segbench.api import Case
from segbench.diagnosis.battery import Progress, run_checks
from segbench.diagnosis.checks import overall
from segbench.diagnosis.examination import Examination
from segbench.evaluation.file_axes import axes_facts, axes_met, file_axes
from segbench.evaluation.request import DataSource, Options
from segbench.evaluation.subject import Subject, load_subject
from segbench.networks import CheckpointReference, ModelReference, trained_within
from segbench.plugins.spec import format_eps
from segbench.store.diagnoses import Diagnosis
from segbench.store.records import digest
from segbench.store.workspace import Workspace
from segbench.training.card import find_checkpoints, load_card

_OTHERS = 2  # networks whose images are tried on this one; each costs as much as an attack


def diagnose_model(
    reference: ModelReference,
    data: DataSource,
    eps: Fraction,
    workspace: Workspace,
    options: Options,
    progress: Progress,
) -> Diagnosis:
    """Run every check on a network; other checkpoints of the workspace lend their images."""
    cases = [data.dataset.load(entry.case_id) for entry in data.entries]
    subject, examined = _examine(reference, data, cases, options)
    others = [
        _examine(other, data, cases, options)[1]
        for other in _neighbours(reference, data, workspace)
        if other.card.weights_sha256 != subject.model.weights_sha256
    ]
    checks = run_checks(examined, eps, others, progress)
    network = examined.network
    return Diagnosis(
        model=reference.name,
        network_sha256=subject.sha256,
        weights_sha256=subject.model.weights_sha256,
        dataset=data.spec,
        dataset_fingerprint=data.dataset.fingerprint(),
        split=data.split,
        cases=len(cases),
        cases_sha256=_contents(subject, cases),
        eps=format_eps(eps),
        precision=network.copies.fast.name,
        device=network.hardware,
        versions={"segbench": __version__, "torch": version("torch")},
        verdict=overall(checks),
        checks=tuple(checks),
        needless=examined.needless,
    )


def _contents(subject: Subject, cases: list[Case]) -> str:
    axes = axes_met(subject.model, ((c.case_id, c.sha256, file_axes(c)) for c in cases))
    return digest({"cases": sorted(case.sha256 for case in cases), **axes_facts(axes)})


def _examine(
    reference: ModelReference, data: DataSource, cases: list[Case], options: Options
) -> tuple[Subject, Examination]:
    """The network, and the same made ready as it is to be attacked."""
    subject = load_subject(reference, data, options)
    return subject, Examination(subject.prepare(subject.probe(), options), cases)


def _neighbours(
    reference: ModelReference, data: DataSource, workspace: Workspace
) -> list[CheckpointReference]:
    """Other checkpoints for the same data, of other architectures first."""
    found = [CheckpointReference(f, load_card(f)) for f in find_checkpoints(workspace)]
    own = {checkpoint.card.model for checkpoint in trained_within(reference)}
    data_now = data.dataset.fingerprint()
    fitting = [
        other
        for other in found
        if other.card.dataset_fingerprint == data_now and other.name != reference.name
    ]
    return sorted(fitting, key=lambda other: other.card.model in own)[:_OTHERS]
