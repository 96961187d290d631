"""Numbers of combinations are those that pandas and numpy give, however they are found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from segbench.metrics import numbering
from segbench.metrics.numbering import dense, first_of, number_of


@pytest.mark.parametrize("few", [0, 50_000_000])
@pytest.mark.parametrize("seed", range(5))
def test_a_combination_has_the_number_that_a_grouping_gives_it(seed, few, monkeypatch):
    monkeypatch.setattr(numbering, "_FEW", few)  # by a table, and by sorting
    random = np.random.default_rng(seed)
    count = 400
    names = [f"n{number:02d}" for number in range(40)]
    frame = pd.DataFrame(
        {
            "name": pd.Categorical(random.choice(names, count), categories=names),
            "text": random.choice(["b", "a", "\u00e9"], count),
            "budget": random.choice([0.0, 8 / 255, 2 / 255], count),
            "flag": random.random(count) < 0.5,
            "seed": random.integers(-3, 900, count),
        }
    )
    for keys in (["seed"], ["text", "name"], [*frame]):
        expected = frame.groupby(keys, sort=True, observed=True).ngroup()
        number = number_of(frame, keys)
        assert number.tolist() == expected.tolist()
        assert first_of(number).tolist() == np.unique(number, return_index=True)[1].tolist()


def test_nothing_and_a_missing_value_have_numbers():
    assert number_of(pd.DataFrame({"a": []}), ["a"]).tolist() == []
    assert first_of(np.zeros(0, np.int64)).tolist() == []
    frame = pd.DataFrame({"a": pd.Categorical(["y", None, "x", "y"])})
    assert number_of(frame, ["a"]).tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize("size", [12, 10**12])
def test_dense_is_unique_with_its_inverse(size):
    keys = np.array([7, 3, 3, 11, 7])
    places, found = dense(keys, size)
    expected, inverse = np.unique(keys, return_inverse=True)
    assert found.tolist() == expected.tolist()
    assert places.tolist() == inverse.tolist()
