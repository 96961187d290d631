"""Libraries that segbench installs only as extras."""

import importlib
from types import ModuleType

from segbench.errors import MachineError, UserError


def import_extra(module: str, *, package: str, extra: str) -> ModuleType:
    """The module of an optional package.

    Raises UserError with the install command where it is not installed, and MachineError where it
    is but does not import.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise MachineError(f"{package} is installed but does not import: {error}") from error
        raise UserError(
            f"{extra}/... needs {package}, which is not installed; run "
            f"pip install 'segbench[{extra}]'"
        ) from error
    except Exception as error:  # a library may fail to import in any way
        raise MachineError(
            f"{package} is installed but does not import: {type(error).__name__}: {error}"
        ) from error
