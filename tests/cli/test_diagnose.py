"""segbench diagnose: an honest trained U-Net passes, a masked one is marked in every report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from brief import shorten_suites

from segbench.diagnosis.checks import check_zero_gradients
from segbench.store.diagnoses import Diagnosis
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

MODEL = "unet:width=4,depth=2"
DATA = "phantom-cxr:size=32,train_cases=24,test_cases=6"
LOUD = """
from pathlib import Path
from torch import nn
from segbench.training.checkpoint import load_checkpoint

class Loud(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, _ = load_checkpoint(Path({folder!r}))

    def forward(self, images):
        return 1e4 * self.net(images)

def build():
    return Loud()
"""


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segbench.diagnosis.battery.STEPS", 10)
    shorten_suites(monkeypatch)


def found(workspace: Path) -> dict[str, dict]:
    records = (json.loads(p.read_text()) for p in Workspace(workspace).diagnoses.glob("*.json"))
    return {record["model"]: record for record in records}


def test_an_honest_network_passes_and_the_same_made_loud_is_marked(
    segbench, workspace: Path, tmp_path: Path
) -> None:
    own = tmp_path / "loud.py"
    own.write_text(LOUD.format(folder=str(next((workspace / "models").iterdir()))))
    loud = f"{own}:build"
    at = ("--workspace", workspace)
    done = segbench("diagnose", MODEL, "--eps", "8/255", "--limit", "4", *at)
    assert done.exit_code == 0, done.output
    done = segbench("diagnose", loud, "--dataset", DATA, "--eps", "8/255", "--limit", "2", *at)
    assert done.exit_code == 0, done.output
    assert "saturated logits" in done.output
    records = found(workspace)
    honest = next(record for name, record in records.items() if name.startswith("unet"))
    assert honest["verdict"] == "pass", honest
    assert records["loud:build"]["verdict"] == "fail"
    assert "own gradients against transfer" in {c["name"] for c in records["loud:build"]["checks"]}
    for model in (("-m", MODEL), ("-m", loud, "--dataset", DATA)):
        done = segbench("attack", *model, "-a", "fgsm", "--eps", "8/255", "--limit", "2", *at)
        assert done.exit_code == 0, done.output
    done = segbench("report", "--out", tmp_path / "out", *at)
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "out" / "report.md").read_text().splitlines()
    marked = [line for line in lines if line.startswith("|") and "gradient-masking" in line]
    assert len(marked) == 1
    assert marked[0].startswith("| loud:build")
    told = [line for line in lines if "segbench diagnose" in line]
    assert any("; passed: unet" in line for line in told)
    assert any("fails the check 'saturated logits'" in line for line in told)


def test_a_smaller_examination_takes_no_mark_away_and_the_gate_fails(
    segbench, workspace: Path, tmp_path: Path, monkeypatch
) -> None:
    at = ("--workspace", workspace)
    golden = ("check", "--golden", tmp_path / "golden.csv", *at)
    assert segbench("attack", "-a", "fgsm", "--eps", "8/255", *at).exit_code == 0
    assert segbench(*golden, "--update").exit_code == 0
    row = read_rows(Workspace(workspace)).iloc[0]
    names = ["model", "network_sha256", "weights_sha256", "dataset", "dataset_fingerprint", "split"]
    facts = {name: row[name] for name in names} | {"precision": "fp32", "device": "cpu"}

    def diagnose(share: float, cases: int) -> str:
        check = check_zero_gradients(share)
        found = {"cases": cases, "eps": "8/255", "versions": {}, "verdict": check.verdict}
        one = Diagnosis.model_validate(facts | found | {"checks": (check,)})
        monkeypatch.setattr("segbench.diagnosis.run.diagnose_model", lambda *_: one)
        done = segbench("diagnose", MODEL, "--limit", str(cases), *at)
        return " ".join(done.output.split())

    assert "rows stay marked" not in diagnose(1.0, 3)
    assert segbench(*golden).exit_code == 1
    told = diagnose(0.0, 1)
    assert "on 3 cases at eps 8/255" in told
    assert "failed exactly zero gradients, so that its rows stay marked" in told
    result = segbench(*golden)
    assert result.exit_code == 1
    assert "DOUBTFUL" in result.output
    assert "gradient-masking" in result.output
    assert "rows stay marked" not in diagnose(0.0, 3)  # the same again
    assert segbench(*golden).exit_code == 0


@pytest.mark.parametrize("eps", ["0", "2"])
def test_a_budget_that_compares_nothing_is_refused(segbench, workspace: Path, eps: str) -> None:
    done = segbench("diagnose", MODEL, "--eps", eps, "--workspace", workspace)
    assert done.exit_code == 2
    assert f"--eps {eps} is no budget" in done.output
