"""Recipes: data that is always valid, overlaid in a stated order, and strict about its keys."""

import tomllib
from importlib.resources import files

import pytest

from segbench.errors import UserError
from segbench.plugins import registry
from segbench.training.recipes import Augmentation, Recipe, load_recipe

SECTIONS = tomllib.loads((files("segbench.training") / "recipes.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("dataset", [*registry.names("datasets"), "a-foreign-one"])
def test_every_data_set_has_a_valid_recipe_in_every_preset(preset: str, dataset: str) -> None:
    assert isinstance(load_recipe(preset, dataset), Recipe)


def test_sections_are_named_after_registered_data_sets() -> None:
    for sections in SECTIONS.values():
        assert set(sections) - {"default"} <= set(registry.names("datasets"))


def test_an_unknown_data_set_gets_the_default_section() -> None:
    assert load_recipe("quick", "a-foreign-one") == Recipe.model_validate(
        SECTIONS["quick"]["default"]
    )


def test_overrides_win_and_leave_the_rest() -> None:
    plain = load_recipe("quick", "jsrt")
    changed = load_recipe("quick", "jsrt", {"epochs": 3, "augmentation": {"rotate": 45}})
    assert (changed.epochs, changed.augmentation.rotate) == (3, 45)
    back = changed.model_copy(
        update={
            "epochs": plain.epochs,
            "augmentation": changed.augmentation.model_copy(
                update={"rotate": plain.augmentation.rotate}
            ),
        }
    )
    assert back == plain


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"epoch": 3}, "no key 'epoch'; did you mean 'epochs'"),
        ({"augmentation": {"rotat": 3}}, "did you mean 'rotate'"),
        ({"epochs": 0}, "epochs is 0, but"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, but"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0, but"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', but"),
        ({"augmentation": {"scale": 1.5}}, "augmentation.scale is 1.5, but"),
        ({"augmentation": 3}, "augmentation is 3, but"),
    ],
)
def test_a_wrong_override_is_named_in_one_sentence(
    overrides: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as caught:
        load_recipe("quick", "jsrt", overrides)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown preset 'quik'; did you mean 'quick'"):
        load_recipe("quik", "jsrt")


def test_every_key_of_a_recipe_says_what_it_is_or_is_a_plain_word() -> None:
    plain = {"epochs", "batch_size", "optimizer", "weight_decay", "augmentation"}
    described = {
        name
        for record in (Recipe, Augmentation)
        for name, field in record.model_fields.items()
        if field.description
    }
    assert described | plain == {*Recipe.model_fields, *Augmentation.model_fields}
