"""Spec text and eps text: what is read is what was written, and what is wrong is said."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segbench.errors import UserError
from segbench.plugins.spec import (
    Spec,
    bind,
    describe,
    format_eps,
    parameters,
    parse,
    parse_eps,
    parse_eps_list,
)

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.+-]{0,8}(/[A-Za-z0-9_.+-]{1,8})?", fullmatch=True)
KEYS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(blacklist_characters='"', blacklist_categories=["Cs"]), max_size=12)


@given(NAMES, st.dictionaries(KEYS, VALUES, max_size=4))
def test_what_is_written_is_read_back(name: str, params: dict[str, str]) -> None:
    spec = Spec(name, params)
    assert parse(str(spec)) == spec


@given(NAMES, st.dictionaries(KEYS, VALUES, max_size=3), NAMES, KEYS)
def test_a_spec_may_hold_a_spec(inner: str, params: dict[str, str], outer: str, key: str) -> None:
    text = str(Spec(inner, {k: v.replace(",", "") for k, v in params.items()})).replace('"', "")
    assert parse(str(Spec(outer, {key: text}))).params == {key: text}


@given(st.text(max_size=30))
def test_any_text_is_a_spec_or_refused(text: str) -> None:
    try:
        spec = parse(text)
    except UserError:
        return
    assert parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("pgd", "pgd", {}),
        ("pgd:steps=40", "pgd", {"steps": "40"}),
        (" pgd : ", None, {}),
        ("pgd:steps=40, restarts = 5", "pgd", {"steps": "40", "restarts": "5"}),
        (
            'transfer:source="unet:width=16,bn=no"',
            "transfer",
            {"source": "unet:width=16,bn=no"},
        ),
        ("monai/SwinUNETR:feature_size=24", "monai/SwinUNETR", {"feature_size": "24"}),
        ("unet++", "unet++", {}),
        ("a:b=", "a", {"b": ""}),
        ('a:b=""', "a", {"b": ""}),
        ("", None, {}),
        ("pgd:", None, {}),
        (":steps=4", None, {}),
        ("pgd:steps", None, {}),
        ("pgd:steps=4,", None, {}),
        ("pgd:,steps=4", None, {}),
        ("pgd:=4", None, {}),
        ("pgd:steps=4 5=6", "pgd", {"steps": "4 5=6"}),
        ('pgd:steps="4', None, {}),
        ('pgd:steps="4"5', None, {}),
        ("pgd steps=4", None, {}),
        ("a/b/c", None, {}),
        ("../x", None, {}),
    ],
)
def test_the_grammar(text: str, name: str | None, params: dict[str, str]) -> None:
    if name is None:
        with pytest.raises(UserError):
            parse(text)
    else:
        assert parse(text) == Spec(name, params)


def test_a_suite_is_cited_with_its_version() -> None:
    assert parse("standard@1") == parse("standard:version=1")
    assert parse("standard@1:cost=quick") == parse("standard:cost=quick,version=1")
    for text in ("standard@", "standard@x", "@1", "standard@1@1", "standard@1:version=1"):
        with pytest.raises(UserError):
            parse(text)


def test_a_key_given_twice_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'steps' is given twice"):
        parse("pgd:steps=4,steps=5")


# ------------------------------------------------------------------------------------------- eps


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", Fraction(8, 255)),
        ("0.5/255", Fraction(1, 510)),
        (" 8 / 255 ", Fraction(8, 255)),
        ("0.03", Fraction(3, 100)),
        (".5", Fraction(1, 2)),
        ("1e-3", Fraction(1, 1000)),
        ("0", Fraction(0)),
        ("+1", Fraction(1)),
    ],
)
def test_eps_is_exact(text: str, value: Fraction) -> None:
    assert parse_eps(text) == value


@pytest.mark.parametrize(
    "text",
    ["-1", "-1/255", "nan", "inf", "-inf", "8/0", "0/0", "0.03abc", "", " ", "/", "8/", "/255",
     "1/2/3", "8//255", "1_000", "1e400", "1e999999999", "1e-999999999", "0x1", "8,5", "½", "٣",
     "9" * 5000],
)  # fmt: skip
def test_what_is_no_eps_is_refused_in_one_sentence_that_names_it(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_eps(text)
    message = str(caught.value)
    assert message.startswith(f"eps {text[:100]!r} ")
    assert "expected a number of zero or more" in message
    assert len(message) < 250


@given(st.fractions(min_value=0, max_value=10).filter(lambda f: f.denominator < 10**6))
def test_an_eps_written_as_a_fraction_is_read_exactly(value: Fraction) -> None:
    assert parse_eps(str(value)) == value


@given(st.integers(1, 4 * 255))
def test_a_share_of_255_is_written_as_such_and_read_back(quarters: int) -> None:
    value = Fraction(quarters, 4 * 255)
    assert format_eps(value).endswith("/255")
    assert parse_eps(format_eps(value)) == value


@pytest.mark.parametrize(("value", "text"), [("0", "0"), ("0.03", "0.03"), ("0.001", "0.001")])
def test_any_other_eps_is_a_decimal(value: str, text: str) -> None:
    assert format_eps(Fraction(value)) == text


def test_a_list_is_sorted_and_without_repeats() -> None:
    found = parse_eps_list(("8/255,2/255", "0", "16/510,1e-3"))
    assert found == [Fraction(0), Fraction(1, 1000), Fraction(2, 255), Fraction(8, 255)]


@pytest.mark.parametrize("text", ["1/255,", ",", "1/255,,2/255"])
def test_a_gap_in_a_list_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="has an empty entry"):
        parse_eps_list((text,))


# ------------------------------------------------------------------------------------------ bind


@dataclass(frozen=True)
class Plug:
    """A plug-in with a parameter of every type."""

    steps: int = 4
    rate: float = 0.5
    random: bool = True
    norm: Literal["linf", "l2"] = "linf"
    level: Literal[1, 2] = 1
    size: int | None = None
    scale: float | str = 1.0
    widths: tuple[int, ...] = (1, 2)
    nonlocal_: bool = False
    text: str = ""


@pytest.mark.parametrize(
    ("item", "values"),
    [
        ("steps=7", {"steps": 7}),
        ("rate=8/255", {"rate": 8 / 255}),
        ("rate=1e-3", {"rate": 1e-3}),
        ("rate=2", {"rate": 2.0}),
        ("random=false", {"random": False}),
        ("random=Yes", {"random": True}),
        ("norm=l2", {"norm": "l2"}),
        ("level=2", {"level": 2}),
        ("size=none", {"size": None}),
        ("size=3", {"size": 3}),
        ("scale=0.5", {"scale": 0.5}),
        ("scale=wide", {"scale": "wide"}),
        ("widths=3+4+5", {"widths": (3, 4, 5)}),
        ("widths=3", {"widths": (3,)}),
        ("nonlocal=true", {"nonlocal_": True}),
        ('text="a,b:c=d"', {"text": "a,b:c=d"}),
    ],
)
def test_values_are_typed_by_the_plugin(item: str, values: dict[str, Any]) -> None:
    found = bind(Plug, parse(f"plug:{item}"))
    assert found == values
    assert [type(v) for v in found.values()] == [type(v) for v in values.values()]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("steps=4.5", "plug: steps='4.5' is not a whole number"),
        ("steps=many", "plug: steps='many' is not a whole number"),
        ("rate=nan", "plug: rate='nan' is not a number"),
        ("rate=inf", "plug: rate='inf' is not a number"),
        ("rate=1/0", "plug: rate='1/0' is not a number"),
        ("random=1", "plug: random='1' is not true or false"),
        ("norm=l3", "plug: norm='l3' is not one of linf, l2"),
        ("level=3", "plug: level='3' is not one of 1, 2"),
        ("size=big", "plug: size='big' is not a whole number or none"),
        ("widths=1+x", "plug: widths='1+x' is not a list of whole numbers separated by +"),
        ("step=4", "plug has no parameter 'step'; did you mean 'steps'? (valid: "),
        ("nonlocal_=true", "plug has no parameter 'nonlocal_'; did you mean 'nonlocal'?"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_was_expected(item: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        bind(Plug, parse(f"plug:{item}"))
    assert str(caught.value).startswith(message)


def build(*, in_channels: int, width: int = 8, deep: bool = False) -> None:
    """A plug-in that is a function."""


def test_reserved_parameters_are_not_the_users_to_set() -> None:
    assert list(parameters(build, reserved=("in_channels",))) == ["width", "deep"]
    assert bind(build, parse("b:width=4"), reserved=("in_channels",)) == {"width": 4}
    with pytest.raises(UserError, match="'in_channels'"):
        bind(build, parse("b:in_channels=4"), reserved=("in_channels",))


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number or none"),
        (Literal["a", "b"], "one of a, b"),
        (tuple[str, ...], "a list of texts separated by +"),
    ],
)
def test_types_have_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words
