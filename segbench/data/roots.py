"""Where each data set lies on this machine: one small file in the user's configuration."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from segbench.errors import MachineError, UserError


def remember_root(name: str, root: Path) -> None:
    """Keep ``root`` as the folder of the data set ``name`` for later commands.

    Raises:
        MachineError: the configuration folder cannot be written.
    """
    path = _roots_file()
    known = _read(path)
    absolute = str(root.expanduser().absolute())
    if known.get(name) == absolute:
        return
    known[name] = absolute
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, json.dumps(known, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise MachineError(f"the data folder cannot be remembered in {path}: {error}") from error


def remembered_root(name: str) -> Path | None:
    """The folder kept for the data set ``name``, or None."""
    root = _read(_roots_file()).get(name)
    return None if root is None else Path(root)


def require_root(name: str, root: Path | None) -> Path:
    """``root`` as a folder that exists.

    Raises:
        UserError: no folder was given or remembered, or it is not there.
    """
    if root is None:
        raise UserError(
            f"the data set {name!r} needs the folder that holds it; give it with --data-root DIR"
        )
    root = root.expanduser()
    if not root.is_dir():
        raise UserError(
            f"the folder {str(root)!r} of the data set {name!r} does not exist; "
            "give the right one with --data-root DIR"
        )
    return root


def _roots_file() -> Path:
    folder = os.environ.get("SEGBENCH_CONFIG_DIR")
    if not folder:
        import click  # here because the data room is usable without a command line

        folder = click.get_app_dir("segbench")
    return Path(folder) / "data-roots.json"


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); mend or delete it") from None
    if not isinstance(known, dict) or not all(isinstance(root, str) for root in known.values()):
        raise UserError(f"{path} is not a map from data sets to folders; mend or delete it")
    return known


def _write_atomically(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
