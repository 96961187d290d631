"""What stands in a checkpoint's folder: a finished training, an unfinished one, or both.

Both stand there while ``force`` replaces a checkpoint: the old one stays whole until the new one is
done. The state then says which card it replaces, so that neither is ever taken for the other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from segbench.atomic import read_regular, shown
from segbench.errors import UserError
from segbench.training.card import CARD_FILE, UNFINISHED_FILE, Settings, difference, load_card
from segbench.training.progress import Progress, load_progress, save_progress


def is_trained(folder: Path, settings: Settings) -> bool:
    """Whether the training is done, and none of these settings has begun to replace it.

    Raises:
        UserError: there is a checkpoint of other settings, or what stands there cannot be read.
    """
    if not (folder / CARD_FILE).exists() or is_replacing(folder, settings):
        return False
    _refuse_other(settings, load_card(folder), folder)
    return True


def is_replacing(folder: Path, settings: Settings) -> bool:
    """Whether ``force`` began a training of these settings that is not done.

    Raises:
        UserError: its state cannot be read.
    """
    if not (folder / UNFINISHED_FILE).exists():
        return False
    theirs, progress = load_progress(folder / UNFINISHED_FILE)
    return progress.replaces == _card_sha256(folder) and difference(settings, theirs) is None


def begin_anew(folder: Path, settings: Settings) -> Progress:
    """The progress of a training that replaces whatever is there; from now on it is unfinished.

    Raises:
        MachineError: that cannot be written.
    """
    progress = Progress(replaces=_card_sha256(folder))
    save_progress(folder / UNFINISHED_FILE, settings, progress)
    return progress


def find_progress(folder: Path, settings: Settings, *, resume: bool) -> Progress:
    """The progress to go on from, empty where nothing has begun.

    Raises:
        UserError: an unfinished training has other settings, or nobody wants it to go on.
    """
    if not (folder / UNFINISHED_FILE).exists():
        return Progress()
    theirs, progress = load_progress(folder / UNFINISHED_FILE)
    if not resume:
        raise UserError(
            f"{shown(folder)} holds an unfinished training ({len(progress.history)} of "
            f"{theirs.recipe.epochs} epochs); give --resume to continue it or --force to start over"
        )
    _refuse_other(settings, theirs, folder)
    return progress


def _refuse_other(ours: Settings, theirs: Settings, folder: Path) -> None:
    if found := difference(ours, theirs):
        raise UserError(
            f"{shown(folder)} holds a training with other settings ({found}); "
            "give --force to replace it, or another --workspace or --seed"
        )


def _card_sha256(folder: Path) -> str:
    """Of the card's file; "" where there is none."""
    try:
        return hashlib.sha256(read_regular(folder / CARD_FILE)).hexdigest()
    except OSError:
        return ""
