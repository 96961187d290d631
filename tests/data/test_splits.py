"""Splits: disjoint, complete, whole groups together, stable when other groups come and go."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segbench.data.faults import Faults
from segbench.data.splits import (
    alternating_splits,
    group_rule,
    read_split_table,
    seeded_splits,
    table_splits,
)
from segbench.errors import UserError

GROUPS = st.dictionaries(
    st.integers(0, 999).map(str), st.integers(0, 20).map(lambda g: f"p{g}"), min_size=2
).filter(lambda groups: len(set(groups.values())) > 1)


@given(GROUPS, st.floats(0.05, 0.95), st.integers(0, 5))
def test_seeded_splits_partition_the_cases_by_group(
    groups: dict[str, str], fraction: float, seed: int
) -> None:
    splits = seeded_splits(groups, fraction, seed)
    train, test = set(splits["train"]), set(splits["test"])
    assert train
    assert test
    assert train | test == set(groups)
    assert not {groups[case] for case in train} & {groups[case] for case in test}


def test_the_test_share_is_met_to_half_a_group() -> None:
    groups = {f"{patient}-{image}": str(patient) for patient in range(100) for image in range(3)}
    for fraction in (0.1, 0.3, 0.5):
        test = seeded_splits(groups, fraction, 0)["test"]
        assert abs(len(test) - fraction * 300) <= 1.5


def test_a_new_seed_is_a_new_split_and_an_old_one_the_same() -> None:
    groups = {str(case): str(case) for case in range(50)}
    assert seeded_splits(groups, 0.3, 1) == seeded_splits(dict(reversed(groups.items())), 0.3, 1)
    assert seeded_splits(groups, 0.3, 1) != seeded_splits(groups, 0.3, 2)


def test_one_group_is_all_tested_and_a_silly_fraction_refused() -> None:
    assert seeded_splits({"a": "p", "b": "p"}, 0.3, 0) == {"train": [], "test": ["a", "b"]}
    with pytest.raises(UserError, match="test_fraction=1"):
        seeded_splits({"a": "p", "b": "q"}, 1.0, 0)


def test_alternating_is_124_to_123_of_247() -> None:
    splits = alternating_splits(f"{n:03d}" for n in range(247, 0, -1))
    assert (len(splits["train"]), len(splits["test"])) == (124, 123)
    assert splits["train"][:2] == ["001", "003"]


def test_a_table_is_read_with_groups_and_file_names(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("\ufefffile,split,group\nimages/a.nii.gz,train,p\nb.png,test,\n", "utf-8")
    table = read_split_table(path)
    assert [table.of(case) for case in "abc"] == ["train", "test", None]
    assert [group_rule("", table)(case) for case in "ab"] == ["p", "b"]


def test_dots_are_part_of_a_name_and_unicode_is_one_form(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    rows = "case_id,split\n1.2.840.1,train\n1.2.840.2,test\nKo\u0308rper.png,test\nx.y.nii.gz,val\n"
    path.write_text(rows, "utf-8")
    table = read_split_table(path)
    cases = ("1.2.840.1", "1.2.840.2", "K\u00f6rper", "x.y")
    assert [table.of(case) for case in cases] == ["train", "test", "test", "val"]
    assert table.strangers(cases) == []
    assert table.strangers(cases[:1]) == ["1.2.840.2", "K\u00f6rper.png", "x.y.nii.gz"]


def test_everything_wrong_with_a_table_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("case_id,split,group\na,train,p\nb,test,p\nghost,test,\n")
    faults = Faults(tmp_path)
    table_splits(read_split_table(path), {"a": "p", "b": "p", "c": "c"}, faults)
    with pytest.raises(UserError) as caught:
        faults.raise_any()
    for part in ("no row for c", "names ghost", "group p in test and train"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,part\na,train\n", "needs a header row"),
        ("case_id,split\na,train\na.png,test\n", "line 3 .* a second time"),
        ("case_id,split\na,\n", "line 2 .* has no split"),
        ("", "needs a header row"),
    ],
)
def test_a_table_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_split_table(tmp_path / "s.csv")


def test_the_group_is_what_the_expression_finds() -> None:
    assert group_rule(r"^(p\d+)_", None)("p12_left") == "p12"
    assert group_rule(r"p\d+", None)("x_p3") == "p3"
    with pytest.raises(UserError, match="finds no group in the name 'other'"):
        group_rule(r"p\d+", None)("other")
    with pytest.raises(UserError, match="not a regular expression"):
        group_rule("(", None)


@pytest.mark.parametrize("pattern", [r"(p.)_OS|OD_(p.)", r"(x?)_", r"(x)?_", r"x*"])
def test_a_group_is_never_nothing(pattern: str) -> None:
    """Of two parentheses the first may have no part in the match; cases would share no patient."""
    with pytest.raises(UserError, match="finds no group in the name 'OD_p1'; its first"):
        group_rule(pattern, None)("OD_p1")
    if pattern.startswith("(p"):
        assert group_rule(pattern, None)("p1_OS") == "p1"
