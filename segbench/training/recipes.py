"""Training recipes as data: ``recipes.toml`` to validated records.

A recipe is the ``default`` section of a preset, overlaid by the section of the data set where
there is one, overlaid by what the user asks for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segbench.errors import UserError
from segbench.plugins.registry import suggest


class Augmentation(BaseModel):
    """How strongly training cases are varied; zero or false switches a variation off."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rotate: float = Field(default=0.0, ge=0, le=180, description="degrees, either way")
    scale: float = Field(default=0.0, ge=0, lt=1, description="zoom by 1 ± this")
    translate: float = Field(
        default=0.0, ge=0, lt=1, description="share of the image's size, either way"
    )
    brightness: float = Field(
        default=0.0, ge=0, le=1, description="added, either way, to [0, 1] pixels"
    )
    contrast: float = Field(
        default=0.0, ge=0, lt=1, description="pixels are multiplied by 1 ± this"
    )
    gamma: float = Field(
        default=0.0, ge=0, description="exponent between 1 / (1 + this) and 1 + this"
    )
    flip: bool = Field(
        default=False, description="mirror along every axis, each with probability 1/2"
    )


class Recipe(BaseModel):
    """How a network is trained; with a seed, all that determines its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw"]
    learning_rate: float = Field(gt=0, description="the peak, after warm-up")
    weight_decay: float = Field(ge=0)
    coarse_epochs: float = Field(
        default=0.0, ge=0, le=1, description="first share of the epochs, at half the image size"
    )
    warmup_epochs: float = Field(ge=0, description="linear rise; a cosine to zero follows")
    validation_fraction: float = Field(ge=0, lt=1, description="share of the groups")
    dice_weight: float = Field(ge=0, description="of soft Dice beside cross-entropy")
    aux_weight: float = Field(ge=0, description="of the mean auxiliary loss")
    augmentation: Augmentation = Augmentation()


def load_recipe(
    preset: str, dataset_name: str, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of a preset (``quick``, ``paper``) for a data set, with the user's changes.

    ``overrides`` may hold any key of ``Recipe``; its ``augmentation`` is a mapping of its own, of
    which only the given keys change.

    Raises:
        UserError: the preset or a key is unknown, or a value is out of range.
    """
    presets = _presets()
    if preset not in presets:
        raise UserError(f"unknown preset {preset!r}{suggest(preset, presets)}")
    sections = presets[preset]
    layers = (sections["default"], sections.get(dataset_name, {}), overrides or {})
    merged: dict[str, Any] = {}
    for layer in layers:
        below, above = merged.get("augmentation", {}), layer.get("augmentation", {})
        both = isinstance(below, Mapping) and isinstance(above, Mapping)
        merged |= {**layer, "augmentation": {**below, **above} if both else above}
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise UserError(f"the recipe {preset!r} cannot be used: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """The first complaint, in words."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        record = Augmentation if len(first["loc"]) > 1 else Recipe
        return f"it has no key {key!r}{suggest(str(first['loc'][-1]), record.model_fields)}"
    return f"{key} is {first['input']!r}, but {first['msg'][0].lower()}{first['msg'][1:]}"


@cache
def _presets() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads((files("segbench.training") / "recipes.toml").read_text(encoding="utf-8"))
