"""What ``-m`` means: a trained spec, a checkpoint folder, or a network of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.errors import UserError
from segbench.networks.archive import ArchiveReference, is_archive
from segbench.networks.foreign import ForeignReference, is_factory
from segbench.networks.imported import ImportedReference, read_import
from segbench.networks.loaded import ModelReference
from segbench.networks.names import Named, tell_apart
from segbench.networks.trained import (
    all_trained,
    checkpoint_at,
    find_trained,
    is_checkpoint_folder,
)
from segbench.networks.wishes import NO_WISHES, Wishes
from segbench.store.workspace import Workspace


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
    if not texts and not weights:
        return list(all_trained(workspace))
    files = list(weights)
    references: list[Named] = []
    for text in texts:
        if imported := read_import(text, wishes):
            references.append(imported)
        elif is_checkpoint_folder(text):
            references.append(checkpoint_at(Path(text)))
        elif is_factory(text):
            file = files.pop(0) if files else None
            references.append(ForeignReference(text, file, wishes))
        elif text.endswith(".py"):
            raise UserError(f"model {text!r} is a file; name what builds it in there: {text}:build")
        elif is_archive(text):
            if not Path(text).exists():
                raise UserError(f"model file {text} does not exist")
            references.append(ArchiveReference(Path(text), wishes))
        else:
            references += find_trained(text, workspace)
    _refuse_idle(references, files, wishes)
    return tell_apart(references)


def _refuse_idle(
    references: Sequence[ModelReference],
    files: Sequence[Path],
    wishes: Wishes,
) -> None:
    """UserError where an option for networks of the user's own finds none to belong to."""
    own = (ForeignReference, ArchiveReference, ImportedReference)
    if not any(isinstance(reference, own) for reference in references):
        for option, value in wishes.given().items():
            raise UserError(
                f"{option} {value!r} belongs to no network of your own; trained ones take images "
                "as their data set has them"
            )
    if files:
        raise UserError(f"--weights {files[0]} belongs to no -m module:factory or path.py:factory")
