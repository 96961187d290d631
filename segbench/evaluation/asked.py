"""What a run asks of a network, as its record keeps it: cells, cases, and how the two relate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segbench.evaluation.case_index import Known
from segbench.evaluation.subject import Subject
from segbench.store.records import digest
from segbench.store.runs import Asked, AskedCase, Training
from segbench.training.card import Card, Learnt, Settings, checkpoint_name


def describe_asked(subject: Subject, keys: Sequence[str], known: Mapping[str, Known]) -> Asked:
    """The cells of a network by their keys, on those cases."""
    data, card = subject.data, subject.model.card
    fingerprint = data.dataset.fingerprint()
    cards = [one for one in (card, *subject.model.member_cards) if one is not None]
    trained = frozenset().union(*(_trained_on(one, fingerprint, known) for one in cards))
    trained |= known.keys() & subject.model.learnt
    groups = {entry.case_id: entry.group_id for entry in data.entries}
    return Asked(
        model=subject.name,
        network_sha256=subject.sha256,
        weights_sha256=subject.model.weights_sha256,
        dataset=data.spec,
        dataset_fingerprint=fingerprint,
        split=data.split,
        other_data=card is not None and card.dataset_fingerprint != fingerprint,
        training=_training(card) if card else None,
        cells=tuple(keys),
        cases=tuple(
            AskedCase(
                case_id=case_id,
                group_id=groups[case_id],
                sha256=case.sha256,
                trained=case_id in trained,
            )
            for case_id, case in known.items()
        ),
        spans=_spans(known),
    )


def _spans(known: Mapping[str, Known]) -> tuple[float, float] | None:
    spans = [span for case in known.values() for span in case.span]
    return (min(spans), max(spans)) if spans else None


def _trained_on(card: Card, fingerprint: str, known: Mapping[str, Known]) -> frozenset[str]:
    """Which of the cases the network was trained, or its epoch chosen, on.

    By content, wherever they lie; by name where the data set is the card's. What the weights that
    it began with were trained on counts too.
    """
    own = Learnt(
        dataset_fingerprint=card.dataset_fingerprint,
        cases=(*card.train_cases, *card.validation_cases),
        contents=tuple(card.contents.values()),
    )
    learnt = (own, *card.inherited)
    contents = {sha256 for one in learnt for sha256 in one.contents}
    named = {case for one in learnt if one.dataset_fingerprint == fingerprint for case in one.cases}
    return frozenset(
        case_id for case_id, case in known.items() if case.sha256 in contents or case_id in named
    )


def _training(card: Card) -> Training:
    """Everything the card was trained by, but for the seed and what is drawn from it."""
    drawn = {"seed", "train_cases", "validation_cases"}
    facts = card.model_dump(mode="json", include=set(Settings.model_fields) - drawn)
    for later in ("defence", "defence_parameters", "start_from"):  # older records have none
        if not facts[later]:
            del facts[later]
    facts["cases"] = sorted([*card.train_cases, *card.validation_cases])
    name = checkpoint_name(card.model, card.dataset_spec, card.seed, card.defence)
    return Training(
        network=name.rpartition("#")[0],
        seed=card.seed,
        settings_sha256=digest(facts),
    )
