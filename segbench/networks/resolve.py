"""What ``-m`` means: a trained spec, a checkpoint folder, or a network of the user's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from segbench.errors import UserError
from segbench.networks.archive import ArchiveReference, is_archive
from segbench.networks.combined import CombinedReference
from segbench.networks.foreign import ForeignReference, is_factory
from segbench.networks.fronted import FrontedReference, read_front
from segbench.networks.imported import ImportedReference, read_import
from segbench.networks.loaded import ModelReference
from segbench.networks.names import Named, tell_apart
from segbench.networks.trained import (
    CheckpointReference,
    all_trained,
    checkpoint_at,
    find_trained,
    is_checkpoint_folder,
)
from segbench.networks.wishes import NO_WISHES, Wishes
from segbench.store.workspace import Workspace

_ENSEMBLE = "ensemble:"


def resolve_models(
    texts: Sequence[str],
    workspace: Workspace,
    weights: Sequence[Path] = (),
    wishes: Wishes = NO_WISHES,
) -> list[ModelReference]:
    """The networks meant by ``-m`` texts, each once and under a name of its own.

    Without texts they are all checkpoints of the workspace. ``weights`` go, in order, to the
    networks of the user's own, and ``wishes`` to all of them.

    Raises:
        UserError: a text means nothing, or an option belongs to none of them.
    """
    files = list(weights)
    references: list[Named] = []
    if texts or weights:
        for text in texts:
            references += _find(text, workspace, files, wishes)
    else:
        references += all_trained(workspace)
    _refuse_idle(references, files, wishes)
    if wishes.tta:
        references = [CombinedReference((reference,), flips=True) for reference in references]
    if wishes.front:
        front = read_front(wishes.front)
        references = [FrontedReference(reference, front) for reference in references]
    return tell_apart(references)


def trained_within(reference: ModelReference) -> list[CheckpointReference]:
    """The checkpoints that a network is made of; none where a part of it is something else."""
    if isinstance(reference, CheckpointReference):
        return [reference]
    parts: tuple[ModelReference, ...] = ()
    if isinstance(reference, CombinedReference):
        parts = reference.members
    if isinstance(reference, FrontedReference):
        parts = (reference.member,)
    found = [trained_within(part) for part in parts]
    return [checkpoint for part in found for checkpoint in part] if all(found) else []


def data_of(reference: ModelReference) -> str:
    """The spec of the data set that a network was trained on; "" for one without cards.

    Raises:
        UserError: its members were trained on several.
    """
    named = {checkpoint.card.dataset_spec for checkpoint in trained_within(reference)}
    if len(named) > 1:
        raise UserError(
            f"model {reference.name} was trained on {' and '.join(sorted(named))}; "
            "name its data with --dataset"
        )
    return named.pop() if named else ""


def _find(text: str, workspace: Workspace, files: list[Path], wishes: Wishes) -> list[Named]:
    """What one text means; factories take their weights from ``files``."""
    if text.startswith(_ENSEMBLE):
        return [_ensemble(text, workspace, files, wishes)]
    if imported := read_import(text, wishes):
        return [imported]
    if is_checkpoint_folder(text):
        return [checkpoint_at(Path(text))]
    if is_factory(text):
        return [ForeignReference(text, files.pop(0) if files else None, wishes)]
    if text.endswith(".py"):
        raise UserError(f"model {text!r} is a file; name what builds it in there: {text}:build")
    if is_archive(text):
        if not Path(text).exists():
            raise UserError(f"model file {text} does not exist")
        return [ArchiveReference(Path(text), wishes)]
    return list(find_trained(text, workspace))


def _ensemble(
    text: str, workspace: Workspace, files: list[Path], wishes: Wishes
) -> CombinedReference:
    """``ensemble:a+b+c``, each member what ``-m`` takes and one network alone.

    A + may also be of a member's own text, as in ``channels=4+8``: members are the shortest texts
    that leave nothing over.
    """
    parts = text.removeprefix(_ENSEMBLE).split("+")
    errors: dict[int, UserError] = {}  # by the part from which on nothing was found

    @cache
    def members_from(start: int, taken: int) -> tuple[Named, ...] | None:
        """Those that the parts from one on name, after so many files; None where they do not."""
        if start == len(parts):
            return ()
        for end in range(start + 1, len(parts) + 1):
            left = files[taken:]
            try:
                found = _member(text, "+".join(parts[start:end]), workspace, left, wishes)
            except UserError as error:
                errors.setdefault(start, error)
                continue
            rest = members_from(end, len(files) - len(left))
            if rest is not None:
                return (found, *rest)
        return None

    members = members_from(0, 0)
    if members is None:
        raise errors[max(errors)]
    if len(members) < 2:
        raise UserError(f"model {text!r} has one member; expected ensemble:a+b")
    apart = tell_apart(members)
    if len(apart) < len(members):
        counts = Counter(member.name for member in members)
        name = next(name for name, count in counts.items() if count > 1)
        raise UserError(
            f"model {text!r} names {name} more than once; an ensemble has each network once"
        )
    del files[: sum(isinstance(one, ForeignReference) and bool(one.weights) for one in members)]
    return CombinedReference(tuple(apart))


def _member(
    whole: str, text: str, workspace: Workspace, files: list[Path], wishes: Wishes
) -> Named:
    """The one network that a text means.

    Raises:
        UserError: it means none, or several.
    """
    found = _find(text, workspace, files, wishes) if text.strip("+") == text != "" else []
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise UserError(f"model {whole!r}: {text!r} means {names}; expected one network")
    return found[0]


def _refuse_idle(
    references: Sequence[ModelReference],
    files: Sequence[Path],
    wishes: Wishes,
) -> None:
    """UserError where an option for networks of the user's own finds none to belong to."""
    own = (ForeignReference, ArchiveReference, ImportedReference)
    members = [
        member
        for one in references
        for member in (one.members if isinstance(one, CombinedReference) else (one,))
    ]
    if not any(isinstance(member, own) for member in members):
        for option, value in wishes.given().items():
            raise UserError(
                f"{option} {value!r} belongs to no network of your own; trained ones take images "
                "as their data set has them"
            )
    if files:
        raise UserError(f"--weights {files[0]} belongs to no -m module:factory or path.py:factory")
