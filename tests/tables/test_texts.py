"""Columns of text: what many rows say is joined as if each group were read by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame

from segbench.tables.texts import compact, join_words, phrases, words

SAID = st.sampled_from(["", "masked", "stuck", "stuck masked", "trained stuck"])


@given(st.lists(st.tuples(st.integers(0, 4), SAID), min_size=1, max_size=30), st.booleans())
def test_each_number_has_every_word_of_its_rows_once(
    rows: list[tuple[int, str]], few: bool
) -> None:
    """Words that repeat are left as they are where no number says two things."""
    frame = DataFrame(rows, columns=["key", "marks"])
    number = np.unique(frame["key"], return_inverse=True)[1]
    column = (compact(frame) if few else frame)["marks"]
    groups = [part.unique() for _, part in frame.groupby("key")["marks"]]
    several = any(len(own) > 1 for own in groups)
    expected = [words(own) if several else own[0] for own in groups]
    assert [*join_words(number, column)] == expected


def test_precisions_are_joined_as_phrases() -> None:
    frame = DataFrame({"precision": ["fp32", "bf16 + fp32", "fp16"]})
    joined = join_words(np.array([0, 0, 1]), frame["precision"])
    assert [*joined] == [phrases(["fp32", "bf16 + fp32"]), "fp16"] == ["bf16 + fp32", "fp16"]
