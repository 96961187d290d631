"""One number a network, who comes first how surely, what fails by size, and what it has cost."""

from __future__ import annotations

import numpy as np
import pytest

from segbench.tables.build import build_tables
from segbench.tables.structures import BINS, structure_sizes


def _case(row, n, model="a@jsrt#0", **given):
    sha = {"a": "0a", "b": "0b", "c": "0c"}[model[0]] * 32
    facts = {"case_id": f"c{n:02d}", "group_id": f"g{n:02d}", "weights_sha256": sha}
    jaccard = given.get("jaccard", 0.5)
    return row(**facts, model=model, dice=2 * jaccard / (1 + jaccard), **given)


def _clean(row, n, **given):
    facts = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    return _case(row, n, **facts, **given)


def test_attacks_count_by_the_worst_curve_and_corruptions_by_each_cases_lowest(row, frame):
    rows = []
    for n in range(4):
        rows.append(_clean(row, n, jaccard=0.9))
        rows.append(_case(row, n, attack="fgsm", jaccard=0.3 if n % 2 else 0.5))
        rows.append(_case(row, n, attack="pgd", jaccard=0.5 if n % 2 else 0.1))
        for name, value in (("blur", 0.8), ("noise", 0.6 + n / 10)):
            facts = {"attack": f"corruption/{name}", "budget_kind": "severity", "budget": 1.0}
            rows.append(_case(row, n, **facts, jaccard=value))
    lines = build_tables(frame(rows)).headlines.set_index("of")
    assert lines.loc["clean", "value"] == pytest.approx(0.9)
    assert lines.loc["linf", "attack"] == "worst of 2 attacks"
    assert lines.loc["linf", "value"] == pytest.approx((0.9 + 0.2) / 2)  # mean height of the curve
    assert lines.loc["severity", "value"] == pytest.approx((0.6 + 0.7 + 0.8 + 0.8) / 4)


def test_attacks_on_a_part_of_the_image_make_no_headline(row, frame):
    rows = []
    for n in range(4):
        rows.append(_clean(row, n, jaccard=0.9))
        rows.append(_case(row, n, attack="pgd", jaccard=0.5))
        for attack in ("fgsm", "sea"):
            confined = {"attack": f"{attack}:where=inside", "attack_params": '{"where": "inside"}'}
            rows.append(_case(row, n, **confined, jaccard=0.1))
    tables = build_tables(frame(rows))
    assert "worst of 2 attacks, where=inside" in set(tables.curves["attack"])
    line = tables.headlines.set_index("of").loc["linf"]
    assert (line["attack"], line["value"]) == ("pgd", pytest.approx((0.9 + 0.5) / 2))


def test_a_rank_is_as_sure_as_the_resamples_that_give_it(row, frame):
    random = np.random.default_rng(0)
    rows = []
    for n in range(12):
        level = random.uniform(0.5, 0.6)
        rows.append(_clean(row, n, model="a@jsrt#0", jaccard=level + 0.2))
        rows.append(_clean(row, n, model="b@jsrt#0", jaccard=level))
        rows.append(_clean(row, n, model="c@jsrt#0", jaccard=level + random.normal(0, 0.05)))
    ranks = build_tables(frame(rows)).ranks.set_index("model")
    assert ranks.loc["a@jsrt#0", ["rank", "first"]].tolist() == [1, 1.0]
    assert 0.1 < ranks.loc["c@jsrt#0", "chance"] < 1
    assert np.sum(ranks["likely"].tolist(), axis=0) == pytest.approx([1, 1, 1], abs=1e-3)
    assert ranks["tau_dice"].tolist() == [1, 1, 1]  # the two rise together
    assert ranks["tau_nsd"].isna().all()  # nobody asked for it


def test_the_size_of_a_structure_is_told_from_its_scores(row, frame):
    # 100 pixels in the label, 80 found, 20 more beside them.
    scores = {"sensitivity": 0.8, "jaccard": 80 / 120, "false_positives": 20}
    sizes = structure_sizes(frame([_case(row, 0, **scores), _case(row, 1, false_positives=0)]))
    assert sizes["pixels"].tolist() == [100]


def test_small_structures_are_told_apart_from_large_ones(row, frame):
    rows = []
    for n in range(12):
        size = 50 * (n + 1)
        found = 0.9 if n >= 4 else 0.3
        extra = 20
        jaccard = found * size / (size + extra)
        scores = {"sensitivity": found, "jaccard": jaccard, "false_positives": extra}
        rows.append(_case(row, n, **scores))
    table = build_tables(frame(rows)).structures.set_index("third")
    assert table.loc["all", "cases"] == 12
    assert table["cases"].drop("all").to_dict() == {"small": 4, "middle": 4, "large": 4}
    assert table.loc["small", "largest"] == 200
    assert table.loc["small", "mean"] < table.loc["middle", "mean"] < table.loc["large", "mean"]


def test_every_case_is_in_one_bin_and_the_cost_is_the_sum(row, frame):
    rows = [_case(row, n, jaccard=value) for n, value in enumerate([0.0, 0.049, 0.05, 1.0])]
    tables = build_tables(frame(rows))
    line = tables.spread.iloc[0]
    counts = [line[f"bin{n:02d}"] for n in range(BINS)]
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 1, 4)
    cost = tables.costs.iloc[0]
    assert (cost["scores"], cost["backwards"], cost["seconds"]) == (4, 160, 1.0)
