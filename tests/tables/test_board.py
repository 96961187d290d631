"""Several workspaces as one: who is who, which score counts, and who has a place."""

from __future__ import annotations

import pytest

from segbench.diagnosis import checks
from segbench.store.diagnoses import CHECKS, Diagnosis
from segbench.tables.board import Part, merge
from segbench.tables.shown import Shown
from segbench_reports import page
from segbench_reports.page.standing import placed

CLEAN = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}


@pytest.fixture
def part(row, frame):
    """What a workspace shows of one network: clean 0.9, and what an attack left of each case."""

    def make(model, scores, sha="aa", diagnoses=(), **given):
        rows = []
        for n, score in enumerate(scores):
            facts = {"model": model, "weights_sha256": sha * 32, "case_id": f"c{n}",
                     "group_id": f"g{n}"}  # fmt: skip
            rows += [row(**facts, **CLEAN, jaccard=0.9), row(**facts, **given, jaccard=score)]
        return Part(Shown(frame(rows)), diagnoses)

    return make


def _norm(tables):
    lines = placed(tables)
    return lines[lines["of"] == "linf"].set_index("model")


def test_unlike_budgets_cases_and_attacks_are_no_ranking(part):
    strong = part("strong", [0.5, 0.5, 0.5], "bb", attack="standard")
    tables = merge([part("weak", [0.8] * 6, attack="noise"), strong])
    lines = _norm(tables)
    assert lines["place"].isna().all()
    assert lines["value_shared"].isna().all()
    text = page.render_board(tables)
    assert "No other network met the same; these have no place." in text
    assert "against L∞ attacks the 2 networks cannot be ranked" in text
    weak = part("weak", [0.8] * 6, budget=2 / 255), part("weak", [0.6, 0.6, 0.8, 0.9, 0.9, 0.9])
    lines = _norm(merge([*weak, part("strong", [0.7, 0.7, 0.7], "bb")]))
    assert lines["place"].to_dict() == {"weak": 2, "strong": 1}  # on the cases that both have
    assert lines["eps_shared"].tolist() == ["8/255", "8/255"]
    assert lines["cases_shared"].tolist() == [3, 3]
    assert lines.loc["strong", "value_shared"] == pytest.approx((0.9 + 0.7) / 2)
    assert lines.loc["weak", "value_shared"] == pytest.approx((0.9 + (0.6 + 0.6 + 0.8) / 3) / 2)
    known = (0.6 + 0.6 + 4 * 0.8) / 6  # what was found at 2/255 bounds every larger budget
    assert lines.loc["weak", "value"] == pytest.approx((0.9 + known) / 2)


def test_of_one_network_all_counts_and_of_one_score_the_last(part):
    earlier, later = part("a", [0.5, 0.5]), part("b", [0.3, 0.4])
    found = _norm(merge([earlier, part("a", [0.2, 0.6], attack="sea"), later]))
    assert found.index.tolist() == ["b"]  # its name in the last
    assert found["value"].item() == pytest.approx((0.9 + (0.2 + 0.4) / 2) / 2)
    assert found["attacks"].item() == "pgd, sea"


def test_what_was_found_out_under_another_name_is_said_of_the_network(part):
    check = checks.check_zero_gradients(1.0)
    others = [check.model_copy(update={"name": n, "verdict": "pass"}) for n in CHECKS]
    facts = {
        "model": "a", "network_sha256": "aa" * 32, "weights_sha256": "aa" * 32, "dataset": "jsrt",
        "dataset_fingerprint": "cd" * 32, "split": "test", "cases": 8, "eps": "4/255",
        "precision": "fp32", "device": "cpu", "versions": {}, "verdict": "fail",
        "checks": (check, *(one for one in others if one.name != check.name)),
    }  # fmt: skip
    examined = part("a", [0.5, 0.5], diagnoses=[Diagnosis.model_validate(facts)])
    tables = merge([examined, part("b", [0.3, 0.4], attack="sea")])
    assert _norm(tables)["marks"].to_dict() == {"b": "gradient-masking"}
    assert any(note.startswith("b on jsrt") and "fails" in note for note in tables.warnings)
