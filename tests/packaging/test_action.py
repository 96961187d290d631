"""action.yml, run: its steps' scripts in bash as GitHub runs them, with their inputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STUB = """#!/bin/bash
printf '%s\\n' "$(basename "$0")" "$@" "workspace=$SEGBENCH_WORKSPACE" -- >> "$CALLS"
if [ "$1" = check ]; then
  [ -z "$MESSAGE" ] || printf '%s' "$MESSAGE" > "${@: -1}"
  exit "$STATUS"
fi
"""
NETWORK = """
from torch import nn

class Dark(nn.Module):
    def forward(self, images):
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))

def build():
    return Dark()
"""


def act(folder: Path, inputs: dict[str, str], env: dict[str, str], skip: int = 0) -> dict[str, str]:
    """Run the steps as a runner does, up to the first that fails.

    Returns:
        The outputs of the action, and under ``status`` how it ended.
    """
    given = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()} | inputs
    assert {n for n, one in ACTION["inputs"].items() if one.get("required")} <= inputs.keys()
    temp = folder / "temp"
    temp.mkdir(exist_ok=True)
    outputs, status = {}, 0
    for step in ACTION["runs"]["steps"][skip:]:
        assert step.get("if", "inputs.grid != ''") == "inputs.grid != ''"
        if status or ("if" in step and not given["grid"]):
            continue
        told = temp / "output"
        told.write_text("")
        own = {name: _filled(text, given) for name, text in step["env"].items()}
        runner = {"GITHUB_OUTPUT": str(told), "RUNNER_TEMP": str(temp)}
        script = temp / "step.sh"
        script.write_text(step["run"])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(command, cwd=folder, env=env | runner | own, check=False)
        status = done.returncode
        for line in told.read_text().splitlines():
            name, _, value = line.partition("=")
            outputs[f"steps.{step['id']}.outputs.{name}"] = value
    found = {name: _filled(one["value"], outputs) for name, one in ACTION["outputs"].items()}
    return found | {"status": str(status)}


def _filled(text: str, values: dict[str, str]) -> str:
    """A text with its ``${{ … }}`` put in; what is not there is empty, as on GitHub."""
    known = {f"inputs.{name}": value for name, value in values.items()} | values
    known["github.action_path"] = str(ROOT)
    return re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda found: known.get(found[1], ""), text)


@pytest.fixture
def stubbed(tmp_path):
    """An environment in which segbench and pip say what they were called with, and do nothing."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "segbench").write_text(STUB)
    python = f'#!/bin/bash\nif [ "$1" = -m ]; then exec "{tools}/pip" "$@"; fi\n'
    (tools / "python").write_text(f'{python}exec "{sys.executable}" "$@"\n')
    (tools / "pip").write_text(STUB)
    for tool in tools.iterdir():
        tool.chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    return {"PATH": path, "CALLS": str(tmp_path / "calls"), "STATUS": "0", "MESSAGE": ""}


def calls(stubbed) -> list[list[str]]:
    text = Path(stubbed["CALLS"]).read_text()
    return [call.splitlines() for call in text.split("--\n") if call]


def test_inputs_arrive_as_they_are_and_nothing_of_them_is_run(stubbed, tmp_path):
    hostile = "a b'\"$(touch broken)`touch broken`;touch broken"
    inputs = {"golden": hostile, "grid": f"{hostile}.toml", "version": "segbench==0.1.0"}
    act(tmp_path, inputs | {"workspace": hostile, "tolerance": "0.02"}, stubbed)
    installed, run, report, check = calls(stubbed)
    assert installed[:-1] == ["pip", "-m", "pip", "install", "--quiet", "segbench==0.1.0"]
    assert run == ["segbench", "run", f"{hostile}.toml", f"workspace={hostile}"]
    assert report[1:4] == ["report", "-f", "html"]
    assert check[1:6] == ["check", "--golden", hostile, "--tolerance", "0.02"]
    assert not (tmp_path / "broken").exists()


def test_without_grid_and_version_nothing_is_run_and_the_action_installs_itself(stubbed, tmp_path):
    act(tmp_path, {"golden": "golden.csv"}, stubbed)
    installed, report, _ = calls(stubbed)
    assert installed[-2] == str(ROOT)
    assert report[-1] == "workspace=runs"


@pytest.mark.parametrize(
    ("status", "message", "verdict"),
    [("0", "stable", "stable"), ("1", "2 regressions", "2 regressions"), ("2", "", "")],
)
def test_the_verdict_is_told_and_the_status_is_the_gate_s(
    status, message, verdict, stubbed, tmp_path
):
    said = json.dumps({"schemaVersion": 1, "message": message}) if message else ""
    stubbed |= {"STATUS": status, "MESSAGE": said}
    found = act(tmp_path, {"golden": "golden.csv"}, stubbed)
    assert found["verdict"] == verdict
    assert found["status"] == status
    assert found["report"] == f"{tmp_path}/temp/segbench/report.html"


@pytest.mark.slow
def test_the_action_runs_a_grid_and_fails_on_a_regression_alone(tmp_path):
    """All but the installation, for real."""
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "grid.toml").write_text(
        'models = ["net.py:build"]\ndataset = "phantom-cxr"\nlimit = 3\n'
        'attacks = ["fgsm"]\neps = ["8/255"]\n'
    )
    env = dict(os.environ) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    golden, inputs = tmp_path / "golden.csv", {"golden": "golden.csv", "grid": "grid.toml"}
    for command in (["run", "grid.toml"], ["check", "--golden", "golden.csv", "--update"]):
        subprocess.run(["segbench", *command], cwd=tmp_path, env=env, check=True)
    found = act(tmp_path, inputs, env, skip=1)
    assert found["status"] == "0"
    assert Path(found["report"]).read_text().startswith("<!DOCTYPE html>")
    passed = found["verdict"]
    scores = pd.read_csv(golden)
    scores["value"] = (scores["value"] + 0.1).clip(upper=1)
    scores.to_csv(golden, index=False)
    (tmp_path / "golden.cases.jsonl").unlink()  # which would have to say the same
    failed = act(tmp_path, inputs, env, skip=1)
    assert failed["status"] == "1"
    assert failed["verdict"] == "4 of 4 scores fail"
    assert passed != failed["verdict"]
