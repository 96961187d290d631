"""docs/ci.md and action.yml: every example parses, and names options that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from segbench.cli.check import _validated
from segbench.cli.check import command as check
from segbench.cli.report import command as report
from segbench.errors import UserError
from segbench.tables.golden import read_golden, write_golden
from segbench.tables.golden_cases import case_file

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
ACTION = (ROOT / "action.yml").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("text", _blocks("yaml"), ids=["github", "gitlab", "pre-commit"])
def test_every_yaml_example_parses(text):
    assert isinstance(yaml.safe_load(text), dict)


def test_the_github_example_gives_the_action_what_it_takes():
    (step,) = [
        step
        for step in yaml.safe_load(_blocks("yaml")[0])["jobs"]["robustness"]["steps"]
        if step.get("id") == "gate"
    ]
    action = yaml.safe_load(ACTION)
    assert step["with"].keys() <= action["inputs"].keys()
    assert {"golden", "grid", "version"} <= action["inputs"].keys()
    assert {"verdict", "report"} <= action["outputs"].keys()


def test_the_jenkins_example_is_balanced():
    (text,) = _blocks("groovy")
    assert text.count("{") == text.count("}") > 0
    assert text.count("'") % 2 == 0


def test_no_input_of_the_action_reaches_a_shell_as_code():
    for step in yaml.safe_load(ACTION)["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
        done = subprocess.run(["bash", "-n"], input=step["run"], text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", [PAGE, ACTION], ids=["page", "action"])
def test_the_options_that_are_named_are_there(text):
    for name, command in (("check", check), ("report", report)):
        known = {option for parameter in command.params for option in parameter.opts}
        for line in re.findall(rf"segbench {name} ([^\n`|']*)", text):
            assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", line)) <= known


def test_the_hook_validates_files_and_names_what_is_wrong(tmp_path):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    golden = tmp_path / "golden.csv"
    golden.write_text("model,dataset\n")
    assert re.search(hook["files"], "ci/golden.csv")
    assert re.search(hook["files"], "grid.toml")
    entry = hook["entry"].split()
    assert entry[0] == "python"
    done = subprocess.run([sys.executable, *entry[1:], str(golden)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "is not a golden file" in done.stderr


def test_a_golden_file_whose_cases_say_something_else_is_not_valid(tmp_path):
    kept = ROOT / "reports" / "golden" / "jsrt-standard.csv"
    golden = tmp_path / "golden.csv"
    case_file(golden).write_bytes(case_file(kept).read_bytes())
    golden.write_bytes(kept.read_bytes())
    assert _validated(golden)[0].endswith("of them by case")
    rows = read_golden(golden)
    write_golden(golden, rows.assign(value=rows["value"] / 2))
    with pytest.raises(UserError, match="its cases"):
        _validated(golden)
