"""One number a network, who comes first how surely, what fails by size, and what it has cost."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from segbench.tables.build import build_tables
from segbench.tables.structures import BINS, structure_sizes
from segbench_reports import latex, page


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
    lines = build_tables(frame(rows), depth="curves").headlines.set_index("of")
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
    tables = build_tables(frame(rows), depth="curves")
    assert "worst of 2 attacks, where=inside" in set(tables.curves["attack"])
    line = tables.headlines.set_index("of").loc["linf"]
    assert (line["attack"], line["value"]) == ("pgd", pytest.approx((0.9 + 0.5) / 2))


def test_images_rounded_to_their_files_levels_make_no_headline(row, frame):
    """They may lie outside the ball that they are called after; with others beside them or not."""
    clean = [_clean(row, n, jaccard=0.9) for n in range(4)]
    facts = {"attack": "pgd:quantized=true", "attack_params": '{"quantized": true}'}
    rounded = [_case(row, n, **facts, jaccard=0.1) for n in range(4)]
    exact = [_case(row, n, attack="pgd", jaccard=0.5) for n in range(4)]
    both = build_tables(frame(clean + exact + rounded), depth="curves").headlines.set_index("of")
    assert both.loc["linf", "attack"] == "pgd:restarts=1,steps=40"
    assert both.loc["linf", "value"] == pytest.approx((0.9 + 0.5) / 2)
    assert set(build_tables(frame(clean + rounded), depth="curves").headlines["of"]) == {"clean"}


def test_a_rank_is_as_sure_as_the_resamples_that_give_it(row, frame):
    random = np.random.default_rng(0)
    rows = []
    for n in range(12):
        level = random.uniform(0.5, 0.6)
        rows.append(_clean(row, n, model="a@jsrt#0", jaccard=level + 0.2))
        rows.append(_clean(row, n, model="b@jsrt#0", jaccard=level))
        rows.append(_clean(row, n, model="c@jsrt#0", jaccard=level + random.normal(0, 0.05)))
    ranks = build_tables(frame(rows), depth="curves").ranks.set_index("model")
    assert ranks.loc["a@jsrt#0", ["rank", "first"]].tolist() == [1, 1.0]
    assert 0.1 < ranks.loc["c@jsrt#0", "chance"] < 1
    assert np.sum(ranks["likely"].tolist(), axis=0) == pytest.approx([1, 1, 1], abs=1e-3)
    assert ranks["tau_dice"].tolist() == [1, 1, 1]  # the two rise together
    assert ranks["tau_nsd"].isna().all()  # nobody asked for it


def _met(row, model, attack, scores, **given):
    """What an attack left of a network, a case a group; clean it keeps 0.9."""
    rows = [_clean(row, n, model=model, jaccard=0.9) for n in range(len(scores))]
    return rows + [_case(row, n, model=model, attack=attack, jaccard=float(score), **given)
                   for n, score in enumerate(scores)]  # fmt: skip


def _once(rows):
    """Each row once: clean scores belong to every attack."""
    names = ("model", "attack", "attack_params", "budget", "case_id")
    return [*{tuple(one[name] for name in names): one for one in rows}.values()]


def _norm(table):
    return table[table["of"] == "linf"] if len(table) else table


@pytest.mark.parametrize(
    "other",
    [{"attack": "sea"}, {"attack_params": '{"steps": 7}'}, {"budget": 4 / 255}, {"case_id": "z"}],
)
def test_networks_that_met_nothing_alike_are_not_ranked_and_it_is_said(other, row, frame):
    """Another attack, other parameters, another budget, other cases: each is no comparison."""
    rows = _met(row, "a@jsrt#0", "pgd", [0.5, 0.6, 0.7])
    weak = _met(row, "b@jsrt#0", "pgd", [0.8, 0.8, 0.8])
    for one in weak:
        if one["attack"] != "clean" or "case_id" in other:
            one |= {k: v + one["case_id"] if k == "case_id" else v for k, v in other.items()}
    tables = build_tables(frame(rows + weak))
    assert _norm(tables.ranks).empty
    assert _norm(tables.compared).empty
    (said,) = [note for note in tables.warnings if "against L∞ attacks the 2 networks" in note]
    assert "cannot be ranked: no two of them met the same attack at the same budget" in said
    text = page.render(tables)
    assert "Under L∞ attacks the 2 networks cannot be ranked" in text
    assert "sure on these cases" not in text.partition("Clean")[0]
    assert "keeps most" not in text


def test_a_ranking_is_by_what_all_met_whatever_else_some_met(row, frame):
    """What one network alone met moves its own number and no rank, chance or difference."""
    random = np.random.default_rng(0)
    rows = [line for n, name in enumerate("abc") for attack in ("fgsm", "pgd")
            for line in _met(row, f"{name}@jsrt#0", attack,
                             random.uniform(0.3, 0.6, 12) - 0.1 * n)]  # fmt: skip
    even = build_tables(frame(_once(rows)))
    more = _met(row, "b@jsrt#0", "sea", random.uniform(0, 0.3, 12))
    more += _met(row, "b@jsrt#0", "fgsm", random.uniform(0, 0.3, 12), budget=1 / 255)
    uneven = build_tables(frame(_once(rows + more)))
    names = ["model", "rank", "value", "chance", "first", "by_case", "tau", "cases"]
    assert _norm(uneven.ranks)[names].equals(_norm(even.ranks)[names])
    pair = ["model", "against", "attack", "eps", "difference", "low", "high", "p", "wins"]
    assert uneven.comparisons[pair].equals(even.comparisons[pair])
    before, after = (_norm(one.headlines).set_index("model")["value"] for one in (even, uneven))
    assert after["b@jsrt#0"] < before["b@jsrt#0"] - 0.05
    assert after.drop("b@jsrt#0").equals(before.drop("b@jsrt#0"))
    (said,) = [note for note in uneven.warnings if "networks are compared by what all 3" in note]
    assert "(fgsm, pgd) at 8/255 on the 12 cases that all have" in said
    assert "fgsm at 1/255 (b@jsrt#0 only); sea at 8/255 (b@jsrt#0 only)" in said
    assert not [note for note in even.warnings if "networks are compared by" in note]


def test_a_place_that_the_lowest_known_contradicts_is_not_settled(row, frame):
    """As after --until-settled, which spends more on the network that is in doubt alone."""
    spread = np.linspace(0, 0.05, 12)
    rows = _met(row, "a@jsrt#0", "pgd", 0.8 + spread) + _met(row, "b@jsrt#0", "pgd", 0.5 + spread)
    ranks = _norm(build_tables(frame(rows)).ranks).set_index("model")
    assert ranks["settled"].to_dict() == {"a@jsrt#0": True, "b@jsrt#0": False}
    rows = _once(rows + _met(row, "a@jsrt#0", "standard", 0.1 + spread))
    tables = build_tables(frame(rows))
    ranks = _norm(tables.ranks).set_index("model")
    assert ranks.loc["a@jsrt#0", ["rank", "first"]].tolist() == [1, 1.0]
    assert not ranks["settled"].any()
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', page.render(tables))
    assert "Under the L∞ attacks that both of them met (pgd) a@jsrt#0 keeps most" in lead
    assert "others keep more of what is known, so its place is not settled" in lead
    assert "sure on these cases" not in lead
    assert "a@jsrt#0, lowest known" in page.render(tables)


def test_who_shares_nothing_with_the_others_stands_alone_and_the_others_are_ranked(row, frame):
    rows = [line for name in "ab" for line in _met(row, f"{name}@jsrt#0", "pgd", [0.4, 0.5, 0.6])]
    rows += _met(row, "a@jsrt#0", "fgsm", [0.7, 0.7, 0.7])
    tables = build_tables(frame(_once(rows + _met(row, "c@jsrt#0", "sea", [0.1, 0.2, 0.3]))))
    (said,) = [note for note in tables.warnings if "networks are compared by" in note]
    assert "Left out: fgsm at 8/255 (a@jsrt#0 only). " in said  # and not what c met
    boards = _norm(tables.headlines).groupby("board")["model"].agg(list).to_dict()
    assert boards == {1: ["a@jsrt#0", "b@jsrt#0"], 2: ["c@jsrt#0"]}
    assert _norm(tables.ranks)["model"].tolist() == ["a@jsrt#0", "b@jsrt#0"]
    text = page.render(tables)
    assert "Under L∞ attacks c@jsrt#0 cannot be ranked with another network" in text
    equal = _norm(tables.ranks)
    assert equal["first"].tolist() == [0.5, 0.5]  # two that are alike: neither is sure
    assert not equal["settled"].any()


def test_corruptions_are_compared_by_those_that_all_met(row, frame):
    severe = {"budget_kind": "severity"}
    rows = []
    for name, blur in (("a", 0.7), ("b", 0.6)):
        scores = [blur, blur + 0.1, blur + 0.2]
        rows += _met(row, f"{name}@jsrt#0", "blur", scores, **severe, budget=2.0)
    rows += _met(row, "a@jsrt#0", "noise", [0.1, 0.1, 0.1], **severe, budget=2.0)
    tables = build_tables(frame(_once(rows)), depth="curves")
    known, shared, ranks = (
        one[one["of"] == "severity"].set_index("model")
        for one in (tables.headlines, tables.compared, tables.ranks)
    )
    assert known["value"].tolist() == pytest.approx([0.1, 0.7])
    assert shared["value"].tolist() == pytest.approx([0.8, 0.7])
    assert ranks["rank"].tolist() == [1, 2]
    assert not ranks["settled"].any()


def test_bold_is_the_best_of_the_same_attacks_only(row, frame):
    """Two worst of two attacks are alike at their clean point alone where the attacks are not."""
    rows = []
    for name, attacks in (("a", ("pgd", "sea")), ("b", ("pgd", "fgsm"))):
        for attack in attacks:
            rows += _met(row, f"{name}@jsrt#0", attack, [0.4, 0.5, 0.6])
    tables = build_tables(frame(_once(rows)), depth="summary")
    text = latex.render(tables)
    assert "worst of 2 attacks" in text
    for line in text.splitlines():
        points = line.split(" & ")[2:]
        if "worst of" in line:
            assert not any("textbf" in point for point in points[1:]), line
        else:
            assert ("textbf" in line) == (" & pgd & " in line), line


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


def test_seeds_are_no_cases_of_a_structure_and_each_of_them_has_its_cost(row, frame):
    rows = [_case(row, 0, seed=seed, jaccard=j, class_id=c, class_name=f"s{c}")
            for c in (1, 2) for seed, j in enumerate((0.2, 0.6))]  # fmt: skip
    rows += [_case(row, 1, jaccard=0.8, class_id=c, class_name=f"s{c}") for c in (1, 2)]
    tables = build_tables(frame(rows))
    line = tables.structures.set_index(["class_name", "third"]).loc[("s1", "all")]
    assert line["cases"] == 2
    assert line["mean"] == pytest.approx((0.4 + 0.8) / 2)
    assert line["mean"] == pytest.approx(tables.curves.set_index("metric").loc["jaccard", "mean"])
    cost = tables.costs.iloc[0]
    assert (cost["scores"], cost["backwards"]) == (3, 3 * 40)


def test_a_minimum_norm_attack_costs_what_it_took_at_however_many_eps(row, frame):
    dag = {"attack": "dag", "attack_params": '{"below": 0.5, "norm": "linf"}', "linf": 0.01}
    rows = [_clean(row, 0), _case(row, 0, budget_kind="min-norm", budget=0.5, **dag)]
    for at in (2, 4, 8):
        rows.append(_case(row, 0, budget=at / 255))
        cost = build_tables(frame(rows)).costs.set_index("attack").loc["dag"]
        assert (cost["scores"], cost["backwards"]) == (1, 40)


def test_every_case_is_in_one_bin_and_the_cost_is_the_sum(row, frame):
    rows = [_case(row, n, jaccard=value) for n, value in enumerate([0.0, 0.049, 0.05, 1.0])]
    tables = build_tables(frame(rows))
    line = tables.spread.iloc[0]
    counts = [line[f"bin{n:02d}"] for n in range(BINS)]
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 1, 4)
    cost = tables.costs.iloc[0]
    assert (cost["scores"], cost["backwards"], cost["seconds"]) == (4, 160, 1.0)


def test_a_label_without_foreground_has_no_score_and_takes_none_away(row, frame):
    """Whatever it met: it is counted nowhere, and its network stays where it is."""
    rows = [line for name in "ab" for line in _met(row, f"{name}@jsrt#0", "pgd", [0.4, 0.5])]
    empty = [_clean(row, 2, model="a@jsrt#0", jaccard=np.nan),
             _case(row, 2, model="a@jsrt#0", attack="sea", jaccard=np.nan)]  # fmt: skip
    tables = build_tables(frame(rows + empty))
    assert _norm(tables.compared)["cases"].tolist() == [2, 2]
    assert _norm(tables.headlines)["value"].tolist() == pytest.approx([(0.9 + 0.45) / 2] * 2)
    alone = build_tables(frame(empty))
    line = alone.headlines.set_index("of").loc["linf"]
    assert (line["attack"], line["cases"]) == ("sea", 0)
    assert np.isnan(line["value"])
    assert "sea" in page.render(alone)


def test_a_further_budget_of_one_network_is_named_and_counts_in_no_comparison(row, frame):
    """At 32/255 it falls, which no sentence on smaller budgets may deny."""
    rows = _met(row, "a@jsrt#0", "pgd", [0.8, 0.8, 0.8])
    rows += _met(row, "b@jsrt#0", "pgd", [0.6, 0.6, 0.6])
    rows += _met(row, "a@jsrt#0", "pgd", [0.1, 0.1, 0.1], budget=32 / 255)
    tables = build_tables(frame(_once(rows)))
    assert set(_norm(tables.headlines)["eps"]) == {"8/255"}
    assert not _norm(tables.compared)["alike"].any()
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', page.render(tables))
    assert "half of its clean score is lost at no eps up to 8/255" in lead
    assert "What only some of them met is left out of this" in lead
    assert any("Left out: pgd at 32/255 (a@jsrt#0 only)." in note for note in tables.warnings)


def _gamma(row, severities, model="a@jsrt#0"):
    facts = {"attack": "corruption/gamma", "budget_kind": "severity", "model": model}
    rows = [_clean(row, n, model=model, jaccard=0.9) for n in range(3)]
    return rows + [
        _case(row, n, **facts, budget=float(at), jaccard=0.9 - 0.1 * at)
        for n in range(3)
        for at in severities
    ]


def test_a_number_of_corruptions_names_the_severities_that_were_met_and_no_others(row, frame):
    tables = build_tables(
        frame(_gamma(row, (1, 2, 5)) + _gamma(row, (1, 2), "b@jsrt#0")), depth="curves"
    )
    known, shared = (
        one[one["of"] == "severity"].set_index("model")
        for one in (tables.headlines, tables.compared)
    )
    assert known["eps"].to_dict() == {"a@jsrt#0": "severity 1 2 5", "b@jsrt#0": "severity 1 2"}
    assert known["largest"].to_dict() == {"a@jsrt#0": 5.0, "b@jsrt#0": 2.0}
    assert set(shared["eps"]) == {"severity 1 2"}
    assert set(shared["largest"]) == {2.0}
    places = [board["said"] for board in page.standing.boards_of(tables) if board["ranked"]]
    assert "all 2 met: corruption/gamma at severity 1, 2, 3 cases" in " ".join(places)


def test_a_case_without_a_score_decides_no_budget_and_no_board(row, frame):
    """A slice without the structure, met at one budget alone, or by one network alone."""
    rows, empty = [], {"jaccard": np.nan, "accuracy": 0.9}
    for model, level in (("a@jsrt#0", 0.9), ("b@jsrt#0", 0.8)):
        for n in range(4):
            rows.append(_clean(row, n, model=model, jaccard=level))
            rows += [_case(row, n, model=model, budget=at / 255, jaccard=level - 0.05 * at)
                     for at in (1, 2, 8)]  # fmt: skip
    alone = build_tables(frame(rows))
    further = [_clean(row, 9, **empty), _case(row, 9, budget=8 / 255, **empty)]
    both = [*further, _case(row, 9, model="b@jsrt#0", budget=8 / 255, attack="fgsm", **empty)]
    for more in (further, both):
        tables = build_tables(frame(rows + more))
        for name in ("headlines", "compared", "standings", "ranks"):
            pd.testing.assert_frame_equal(getattr(tables, name), getattr(alone, name))
        assert not [said for said in tables.warnings if "eaves out" in said or "Left out" in said]
    assert set(alone.headlines.query("of == 'linf'")["eps"]) == {"1/255 2/255 8/255"}


def test_a_network_without_any_score_is_beside_no_other(row, frame):
    empty = {"jaccard": np.nan, "accuracy": 0.9}
    rows = [_clean(row, 0, jaccard=0.9), _case(row, 0, jaccard=0.4)]
    for model in ("a@jsrt#0", "b@jsrt#0"):
        rows += [make(row, 1, model=model, **empty) for make in (_clean, _case)]
    lines = build_tables(frame(rows)).headlines.query("of == 'linf'").set_index("model")
    assert lines.loc["a@jsrt#0", ["value", "cases"]].tolist() == pytest.approx([0.65, 1])
    assert np.isnan(lines.loc["b@jsrt#0", "value"])
    assert lines["board"].nunique() == 2
