"""A case of a data set, loaded and known to be as the contract says."""

from __future__ import annotations

from importlib.metadata import packages_distributions

from segbench.api import Case, Dataset
from segbench.errors import ContractError, MachineError, UserError
from segbench.plugins.contract import check_case


def load_case(dataset: Dataset, case_id: str) -> Case:
    """The case, its image float32 in [0, 1] and its labels int64 of one shape.

    Raises:
        UserError: a file of it cannot be used, or every pixel of it is ignored.
        MachineError: the data set failed, or breaks its contract; it is named.
    """
    try:
        return check_case(dataset.load(case_id), dataset)
    except (UserError, MachineError, MemoryError, OSError):
        raise
    except ContractError as error:
        raise MachineError(f"{_named(dataset)} breaks its contract: {error}") from error
    except (Exception, SystemExit) as error:
        raise MachineError(
            f"{_named(dataset)} failed to load case {case_id}: {type(error).__name__}: {error}"
        ) from error


def _named(dataset: Dataset) -> str:
    """The data set's class and the package it comes from, in words."""
    kind = type(dataset)
    package = kind.__module__.partition(".")[0]
    owner = packages_distributions().get(package, [package])[0]
    return f"the data set {kind.__qualname__} of {owner}"
