"""Libraries that only some networks need: imported when one is loaded, each by an extra."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import torch

from segbench.errors import MachineError, UserError


def import_library(module: str, extra: str) -> ModuleType:
    """A module of a library that ``pip install 'segbench[extra]'`` brings.

    Raises:
        UserError: it is not installed.
        MachineError: it is, and does not import.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except Exception as error:  # a library may fail to import in any way
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise UserError(
                f"{package} is not installed; run pip install 'segbench[{extra}]'"
            ) from None
        raise does_not_import(package, error) from error


def does_not_import(package: str, error: Exception) -> MachineError:
    """The sentence for a library that is there and broken, by the first cause of its failure."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
    remedy = ""
    if "torchvision" in reason:
        remedy = (
            "; the torchvision that is installed was built for another torch than "
            f"{torch.__version__}, install the one that belongs to it"
        )
    return MachineError(f"{package} is installed but does not import ({reason}){remedy}")
