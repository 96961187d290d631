"""A ranking is of scores: where they are equal no name comes before another."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from segbench.tables.build import build_tables
from segbench_reports import page
from segbench_reports.page import standing

ORDERS = [("a", "b", "c"), ("c", "a", "b"), ("b", "c", "a")]


@pytest.fixture
def board(row: Any, frame: Any) -> Any:
    """The tables of one attack on 8 patients: network -> its score of each, or one of all."""

    def make(scores: dict[str, Any], depth: Any = "curves") -> Any:
        rows = []
        for model, values in scores.items():
            facts = {"model": f"{model}@jsrt#0", "weights_sha256": f"{ord(model):02x}" * 32}
            for n, score in enumerate(np.broadcast_to(values, 8).tolist()):
                case = {"case_id": f"c{n}", "group_id": f"g{n}", "jaccard": score, "dice": score}
                clean = {"attack_params": "{}", "budget_kind": "none", "budget": 0.0}
                rows.append(row(attack="clean", **facts, **clean, **{**case, "jaccard": 0.9}))
                rows.append(row(attack="pgd", **facts, **case))
        return build_tables(frame(rows), depth=depth)

    return make


def ranks_of(tables: Any) -> Any:
    return tables.ranks[tables.ranks["of"] == "linf"].set_index("model")


@pytest.mark.parametrize("names", ORDERS)
def test_equals_have_one_rank_and_share_the_chances_of_theirs(
    board: Any, names: tuple[str, ...]
) -> None:
    ranks = ranks_of(board(dict.fromkeys(names, 0.3)))
    assert set(ranks["rank"]) == set(ranks["by_case"]) == {1}
    for likely in ranks["likely"]:
        assert likely == pytest.approx([1 / 3] * 3, abs=1e-4)
    assert not ranks["settled"].any()
    assert ranks["tau"].isna().all()


def test_names_take_no_part_in_what_is_told_of_a_network(board: Any) -> None:
    """Most cases are lost by all: the order within them was that of the names."""
    random = np.random.default_rng(0)
    scores = [np.where(np.arange(8) < 5, 0.0, random.uniform(0.1, 0.5, 8)) for _ in range(3)]
    told = ["rank", "by_case", "chance", "first", "settled", "tau", "tau_dice", "value"]
    found = []
    for names in ORDERS:
        ranks = ranks_of(board(dict(zip(names, scores, strict=True))))
        found.append(ranks.loc[[f"{name}@jsrt#0" for name in names], told].to_numpy(float))
    np.testing.assert_allclose(found[1], found[0], atol=1e-12)
    np.testing.assert_allclose(found[2], found[0], atol=1e-12)


def test_cases_that_all_lost_alike_move_nobody(board: Any) -> None:
    """``b`` is ahead in the one case that tells them apart, and is so by either way of ranking."""
    won = np.where(np.arange(8) == 0, 0.2, 0.0)
    ranks = ranks_of(board({"a": 0.0, "b": won}))
    assert ranks["by_case"].tolist() == ranks["rank"].tolist() == [2, 1]
    assert ranks["tau"].tolist() == pytest.approx([1, 1])


def test_the_page_names_all_that_keep_most_and_gives_them_the_leaderboards_place(
    board: Any,
) -> None:
    tables = board({"a": 0.3, "b": 0.3, "c": 0.1}, "all")
    lead = re.search(r'<p class="lead">(.*?)</p>', page.render(tables))
    assert lead
    assert "a@jsrt#0 and b@jsrt#0 keep the same, most of 3 networks: the mean height" in lead[1]
    assert "None of them is ahead, so the first place is not settled." in lead[1]
    placed = standing.placed(tables)
    places = placed[placed["of"] == "linf"].set_index("model")["place"]
    assert places.to_dict() == ranks_of(tables)["rank"].to_dict()
    both = re.search(r'<p class="lead">(.*?)</p>', page.render(board({"a": 0.3, "b": 0.3}, "all")))
    assert both
    assert "a@jsrt#0 and b@jsrt#0 keep the same: the mean height" in both[1]
