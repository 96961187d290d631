"""One record for every door: the command line says the same, and each wrong value is a sentence."""

from __future__ import annotations

from dataclasses import MISSING, fields
from fractions import Fraction

import click
import numpy as np
import pytest

from segbench.cli.attack import command
from segbench.cli.certify import command as certify_command
from segbench.errors import UserError
from segbench.evaluation.certificate import Certify
from segbench.evaluation.grid_file import GridFile
from segbench.evaluation.records import validated
from segbench.evaluation.request import Options, Request, select_data
from segbench.plugins.spec import canonical
from segbench.training.card import Card
from segbench.training.recipes import load_recipe

ELSEWHERE = {"workspace", "plan"}  # of the command line alone
FIELDS = {f.name: f for f in fields(Request) if f.name != "part"}  # what submit writes for run
APART = {"certify"}  # a table of its own, and a command
PLURALS = {"model": "models", "attack": "attacks", "seed": "seeds"}
ASKED = {
    PLURALS.get(str(o.name), str(o.name)): o for o in command.params if o.name not in ELSEWHERE
}


def test_the_command_line_and_the_record_name_the_same_options() -> None:
    assert ASKED.keys() == FIELDS.keys() - APART
    assert FIELDS.keys() < {field.name for field in fields(GridFile)}


def test_certify_says_the_same_on_the_command_line_and_in_its_table() -> None:
    options = {str(o.name): o for o in certify_command.params}
    context = click.Context(certify_command)
    taken = {f.name: options[f.name].get_default(context) for f in fields(Certify)}
    assert validated(Certify, taken) == Certify()
    others = options.keys() - taken.keys() - ELSEWHERE - {"model", "seed"}
    assert others <= FIELDS.keys()


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - APART))
def test_the_command_line_has_the_records_defaults_and_choices(name: str) -> None:
    option, field = ASKED[name], FIELDS[name]
    default = option.get_default(click.Context(command))
    if name == "seeds":
        default = (default,)
    nothing = default is None or default is click.core.UNSET  # type: ignore[attr-defined]
    expected = () if field.default in ((), None) else field.default
    assert field.default is not MISSING
    assert (() if nothing else default) == expected
    if isinstance(option.type, click.Choice):
        for choice in option.type.choices:
            validated(Request, {name: choice})
        with pytest.raises(UserError, match=f"{name} = 'other'; expected"):
            validated(Request, {name: "other"})


WRONG = [None, True, 3, 0, -1, 2.5, float("nan"), "perhaps", [], [None], [True], [{}], {}, b"pgd",
         object(), [object()], 10**30]  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_whatever_a_value_is_it_is_taken_or_refused_in_words(name: str) -> None:
    refused = 0
    for value in WRONG:
        try:
            validated(Request, {name: value})
        except UserError as error:
            refused += 1
            message = str(error)
            assert message.startswith((name, "eps ")) or "is not a spec" in message, message
            assert "expected " in message
            for words in ("Input", "valid ", "instance", "tuple", "validat", "\n"):
                assert words not in message
            assert len(message) < 250
    assert refused


def test_a_long_value_is_cut() -> None:
    with pytest.raises(UserError) as caught:
        validated(Request, {"precision": "x" * 5000})
    assert len(str(caught.value)) < 200


def test_eps_are_exact_sorted_and_each_once_however_they_are_written() -> None:
    values = ["2/255", 0.03, "1/255,2/255", Fraction(1, 3), np.float64(0.5), 0, np.int8(1)]
    eps = (0, Fraction(1, 255), Fraction(2, 255), Fraction(3, 100), Fraction(1, 3), Fraction(1, 2),
           1)  # fmt: skip
    assert validated(Request, {"eps": values}).eps == eps
    assert validated(Request, {"eps": np.array([0.5, 0.25])}).eps == (
        Fraction(1, 4),
        Fraction(1, 2),
    )


def test_numbers_of_numpy_and_ranges_are_taken() -> None:
    request = validated(Request, {"limit": np.int64(3), "seeds": range(2), "attacks": ["fgsm"]})
    assert (request.limit, request.seeds, request.attacks) == (3, (0, 1), ("fgsm",))


def test_a_request_is_frozen_and_is_its_own_options() -> None:
    request = validated(Request, {"fresh": True, "allow_trained_cases": True})
    assert isinstance(request, Options)
    assert request.fresh
    assert request.allow_trained_cases
    with pytest.raises(AttributeError):
        request.fresh = False  # type: ignore[misc]
    assert (Options().fresh, Options().allow_trained_cases) == (False, False)


@pytest.mark.parametrize(
    "text", ["folder:b=2,a=1", "folder:a=1,b=2", ' folder:b="2", a = 1', 'folder:a="1",b=2']
)
def test_a_data_spec_is_written_in_one_way_at_every_door(text: str) -> None:
    one = "folder:a=1,b=2"
    assert canonical(text) == one
    assert validated(Request, {"dataset": text}).dataset == one
    assert validated(GridFile, {"dataset": text}).dataset == one
    assert ASKED["dataset"].type.convert(text, None, None) == one
    assert select_data(text, Phantoms(), "test", None).spec == one
    assert Card.model_validate(card(dataset_spec=text)).dataset_spec == one


class Phantoms:
    def entries(self, split: str) -> list[object]:
        return []


def card(**given: object) -> dict[str, object]:
    values = {
        "model": "unet", "parameters": {}, "in_channels": 1, "num_classes": 2, "spatial_dims": 2,
        "class_names": ["background", "lung"], "dataset": "folder", "dataset_fingerprint": "ab",
        "split": "train", "train_cases": [], "validation_cases": [], "seed": 0, "plugin": "mine",
        "best_epoch": 1, "best_jaccard": None, "last_jaccard": None, "history": [], "versions": {},
        "hardware": "cpu", "precision": "fp32", "created": "now", "seconds": 1.0,
    }  # fmt: skip
    return values | {"recipe": load_recipe("quick", "folder", {}).model_dump()} | given
