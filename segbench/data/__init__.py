"""The data room: spec text such as ``jsrt:size=224`` to a data set of validated cases.

Nothing is ever downloaded. A data set on disk needs a root folder: given with ``--data-root``, or
remembered from an earlier command.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from segbench.api import Dataset
from segbench.data.roots import remember_root, remembered_root
from segbench.errors import MachineError, UserError
from segbench.plugins.contract import check_dataset
from segbench.plugins.registry import blame, load
from segbench.plugins.spec import bind, parameters, parse

__all__ = ["load_dataset", "open_dataset", "remember_root", "remembered_root"]


def load_dataset(spec_text: str, root: Path | None = None) -> Dataset:
    """The data set that a spec names, its files found and checked.

    Without ``root`` the folder remembered for that name is used, if there is one.

    Raises:
        UserError: an unknown data set or option, or files that cannot be used.
        MachineError: the plug-in itself failed, or breaks its contract.
    """
    spec = parse(spec_text)
    plugin = load("datasets", spec.name)
    factory = plugin.factory
    options = bind(factory, spec, reserved=("root",))
    if "root" in parameters(factory):
        options["root"] = root if root is not None else remembered_root(spec.name)
    elif root is not None:
        raise UserError(f"the data set {spec.name!r} reads no files; leave out --data-root")
    try:
        dataset = cast("Dataset", factory(**options))
        with blame(plugin):
            check_dataset(dataset)
        return dataset
    except (UserError, MachineError):
        raise
    except Exception as error:
        raise MachineError(
            f"the data set {spec.name!r} failed: {type(error).__name__}: {error}"
        ) from error


def open_dataset(spec_text: str, root: Path | None) -> Dataset:
    """The data set of a spec, at the given or the remembered root; a given root is remembered.

    Raises:
        UserError, MachineError: see ``load_dataset``.
    """
    dataset = load_dataset(spec_text, root)
    if root is not None:
        remember_root(parse(spec_text).name, root)
    return dataset
