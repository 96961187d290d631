"""grid.toml to validated records: what ``segbench run`` reads.

    dataset = "jsrt"
    data_root = "../data/jsrt"           # relative to this file
    attacks = ["ifgsm", "pgd:restarts=5"]
    eps = ["1/255", "4/255", 0.03]

    [train]                              # optional: networks to train first
    models = ["nlcen", "unet"]           # or, or also, suite = "paper"
    seeds = [0, 1, 2]                    # each network once with each

Without ``models`` every checkpoint of the workspace is attacked. Every option of
``segbench attack`` is a key, see :class:`segbench.evaluation.request.Request`. Every key that is a
path is relative to the file. Names of networks, attacks and data sets are written as on the command
line, and where they hold a path, as ``net.py:build`` does, it is relative to the current folder.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic.dataclasses import dataclass

from segbench.errors import UserError
from segbench.evaluation.plan import plan_grid
from segbench.evaluation.records import STRICT, Count, Flag, Seed, Seeds, Texts, validated
from segbench.evaluation.request import Request
from segbench.plugins import registry
from segbench.plugins.spec import parse
from segbench.training.suites import load_suite

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
_OF_POOL = ("workers", "devices", "case_timeout")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """The ``[train]`` table; see ``segbench train --help``."""

    models: Texts = ()
    suite: str | None = None
    preset: str = "quick"
    epochs: Count | None = None
    seed: Seed | None = None
    seeds: Seeds | None = None
    defence: str = ""
    start_from: Path | None = None
    force: Flag = False

    @property
    def networks(self) -> tuple[str, ...]:
        """Every spec once: the models, then those of the suite."""
        return tuple(dict.fromkeys([*self.models, *(load_suite(self.suite) if self.suite else ())]))

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """``seeds``, or else the one seed."""
        return self.seeds or (self.seed or 0,)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GridFile(Request):
    """A whole ``grid.toml``: a request, the reports to write of it, and what to train before."""

    reports: Texts = ("markdown", "csv")
    train: TrainConfig | None = None


def load_grid_file(path: Path) -> GridFile:
    """The validated file, its paths made relative to the current folder.

    Raises:
        UserError: the file cannot be read, is not TOML, or holds an unknown key or a wrong value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"grid file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"grid file {path} is not TOML: {error}") from None
    try:
        grid = validated(GridFile, content)
        _check_names(grid)
    except UserError as error:
        raise UserError(f"grid file {path}: {error}") from None
    return _beside(grid, path.parent)


def _beside(record: R, folder: Path) -> R:
    """A record whose paths are relative to a folder, those of its tables too."""
    changed: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Path):
            changed[field.name] = folder / value
        elif isinstance(value, tuple) and value and isinstance(value[0], Path):
            changed[field.name] = tuple(folder / path for path in value)
        elif is_dataclass(value) and not isinstance(value, type):
            changed[field.name] = _beside(value, folder)
    return replace(record, **changed)


def override(grid: GridFile, said: Mapping[str, Any]) -> GridFile:
    """The file with what the command line says instead.

    With another executor than the file's, what the file says of its own goes too.

    Raises:
        UserError: a value does not fit.
    """
    checked = validated(Request, said)
    changed = {name: getattr(checked, name) for name in said}
    if changed.get("executor", grid.executor) != grid.executor:
        changed = {name: getattr(Request(), name) for name in _OF_POOL} | changed
    return replace(grid, **changed)


def _check_names(grid: GridFile) -> None:
    """Every plug-in that is named, before hours of training and not after them."""
    plan_grid(grid)
    for report in grid.reports:
        registry.load("reports", report)
    if grid.train:
        _check_training(grid.train)


def _check_training(train: TrainConfig) -> None:
    if not train.networks:
        raise UserError("[train] names no network; give it models or a suite")
    for model in train.networks:
        registry.load("models", parse(model).name)
    if train.defence:
        registry.load("defences", parse(train.defence).name)
    if train.seeds is not None and train.seed is not None:
        raise UserError("[train] has both seed and seeds; keep one of them")
    if len(set(train.training_seeds)) < len(train.training_seeds):
        raise UserError(f"train.seeds = {list(train.training_seeds)} names a seed twice")
