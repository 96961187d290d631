"""grid.toml to validated records: the only place that validates a declared grid.

    dataset = "jsrt"
    data_root = "../data/jsrt"           # relative to this file
    attacks = ["ifgsm", "pgd:restarts=5"]
    eps = ["1/255", "4/255", 0.03]

    [train]                              # optional: networks to train first
    models = ["nlcen", "unet"]           # or, or also, suite = "paper"
    seeds = [0, 1, 2]                    # each network once with each

Without ``models`` every checkpoint of the workspace is attacked.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segbench.errors import UserError
from segbench.plugins import registry
from segbench.plugins.attack import attack_budgets, load_attack
from segbench.plugins.registry import suggest
from segbench.plugins.spec import parse, parse_eps_list
from segbench.training.suites import load_suite


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainConfig(_Record):
    """The ``[train]`` table; see ``segbench train --help``."""

    models: tuple[str, ...] = ()
    suite: str | None = None
    preset: str = "quick"
    epochs: int | None = Field(default=None, ge=1)
    seed: int = 0
    seeds: tuple[int, ...] | None = Field(default=None, min_length=1)

    @property
    def networks(self) -> tuple[str, ...]:
        """Every spec once: the models, then those of the suite."""
        return tuple(dict.fromkeys([*self.models, *(load_suite(self.suite) if self.suite else ())]))

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """``seeds``, or else the one seed."""
        return self.seeds or (self.seed,)


class GridConfig(_Record):
    """A whole ``grid.toml``; see ``segbench attack --help`` for what the keys mean."""

    dataset: str | None = None
    data_root: Path | None = None
    split: str = "test"
    limit: int | None = Field(default=None, ge=1)
    models: tuple[str, ...] = ()
    weights: tuple[Path, ...] = ()
    attacks: tuple[str, ...] = Field(default=("pgd",), min_length=1)
    eps: tuple[str | float, ...] = ()
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    precision: Literal["auto", "fp32"] = "auto"
    batch_size: int | None = Field(default=None, ge=1)
    boundary: bool = False
    quantize: bool = False
    save_adversarial: bool = False
    reports: tuple[str, ...] = ("markdown", "csv")
    train: TrainConfig | None = None


def load_grid_config(path: Path) -> GridConfig:
    """The validated file, its paths made relative to the current folder.

    Raises:
        UserError: the file cannot be read, is not TOML, or holds an unknown key or a wrong value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"grid file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"grid file {path} is not TOML: {error}") from None
    try:
        config = GridConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(f"grid file {path}: {_sentence(error)}") from None
    try:
        _check_texts(config)
    except UserError as error:
        raise UserError(f"grid file {path}: {error}") from None
    folder = path.parent
    return config.model_copy(
        update={
            "data_root": config.data_root and folder / config.data_root,
            "weights": tuple(folder / weights for weights in config.weights),
        }
    )


def _check_texts(config: GridConfig) -> None:
    """Every spec and eps, before hours of training and not after them."""
    eps = parse_eps_list(tuple(map(str, config.eps))) if config.eps else []
    for attack in config.attacks:
        attack_budgets(load_attack(attack), eps)
    for report in config.reports:
        registry.load("reports", report)
    if config.train:
        _check_training(config.train)


def _check_training(train: TrainConfig) -> None:
    if not train.networks:
        raise UserError("[train] names no network; give it models or a suite")
    for model in train.networks:
        registry.load("models", parse(model).name)
    if train.seeds is not None and "seed" in train.model_fields_set:
        raise UserError("[train] has both seed and seeds; keep one of them")
    if len(set(train.training_seeds)) < len(train.training_seeds):
        raise UserError(f"train.seeds = {list(train.training_seeds)} names a seed twice")


def _sentence(error: ValidationError) -> str:
    """The first complaint, in words."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        table = TrainConfig if len(first["loc"]) > 1 else GridConfig
        return f"no key {key!r}{suggest(str(first['loc'][-1]), table.model_fields)}"
    if first["type"] == "missing":
        return f"the key {key!r} is missing"
    return f"{key} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
