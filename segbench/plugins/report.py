"""A report's files: written by its plug-in, and known to be there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.api import Tables
from segbench.errors import MachineError, UserError
from segbench.plugins.contract import check_files
from segbench.plugins.registry import Plugin, blame


def write_report(plugin: Plugin, tables: Tables, directory: Path) -> Sequence[Path]:
    """The files that a report has written into the folder.

    Raises:
        UserError: what it raises itself.
        MachineError: the disk refused, or the plug-in failed or breaks its contract.
    """
    try:
        with blame(plugin):
            return check_files(plugin.factory(tables, directory))
    except (UserError, MachineError, OSError):
        raise
    except (Exception, SystemExit) as error:
        raise MachineError(
            f"the report {plugin.name!r} of {plugin.distribution} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
