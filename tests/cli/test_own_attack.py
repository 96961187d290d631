"""An attack in a file of the user's own, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

ATTACK = """
from dataclasses import dataclass

from amount_of_a_test import AMOUNT

@dataclass(frozen=True)
class Brighten:
    '''Makes every pixel brighter by a share of eps.'''

    share: float = AMOUNT
    needs = "labels"
    budget_kind = "linf"

    def run(self, objective, images, goal, budget, noise):
        return images + self.share * budget.eps

@dataclass(frozen=True)
class Crash(Brighten):
    def run(self, objective, images, goal, budget, noise):
        raise KeyError("oh no")

@dataclass(frozen=True)
class One(Brighten):
    def run(self, objective, images, goal, budget, noise):
        return images[0]
"""


def write(folder: Path) -> Path:
    folder.mkdir()
    (folder / "amount_of_a_test.py").write_text("AMOUNT = 1.0\n")
    (folder / "mine.py").write_text(ATTACK)
    return folder / "mine.py"


def cells(segbench, workspace: Path) -> set[str]:
    listed = segbench("list", "cells", "--json", "--workspace", workspace).stdout
    return {cell["attack"] for cell in json.loads(listed)["cells"]}


def test_an_attack_of_ones_own_runs_is_said_to_and_is_computed_anew_after_an_edit(
    segbench, workspace: Path, tmp_path: Path
) -> None:
    mine = write(tmp_path / "attacks")

    def attack(*texts: str) -> tuple[str, str]:
        options = [option for text in texts for option in ("-a", text)]
        result = segbench(
            "attack", *options, "--eps", "4/255", "--limit", "2", "--workspace", workspace
        )
        assert result.exit_code == 0, result.output
        return " ".join(result.stdout.split()), result.stderr.replace("\n", "")

    out, said = attack(f"{mine}:Brighten:share=0.5")
    assert f"{mine} is code of yours and runs here" in said
    assert "4 scores computed, 0 found" in out
    assert "mine:Brighten" in out
    assert cells(segbench, workspace) == {"clean", "mine:Brighten:share=0.5"}
    out, _ = attack(f"{mine}:Brighten:share=0.5")
    assert "0 scores computed, 4 found" in out
    with (mine.parent / "amount_of_a_test.py").open("a") as file:
        file.write("# edited\n")
    out, _ = attack(f"{mine}:Brighten:share=0.5")
    assert "2 scores computed, 2 found" in out


def test_the_gate_says_that_an_attack_was_edited(segbench, workspace: Path, tmp_path: Path) -> None:
    mine, golden = write(tmp_path / "attacks"), tmp_path / "golden.csv"

    def check(*options: str) -> str:
        segbench("attack", "-a", f"{mine}:Brighten", "--eps", "4/255", "--limit", "2",
                 "--workspace", workspace)  # fmt: skip
        result = segbench("check", "--golden", golden, *options, "--workspace", workspace)
        assert result.exit_code == 0, result.output
        return " ".join(f"{result.stdout} {result.stderr}".split())

    check("--update")
    assert "code" not in check()
    mine.write_text(ATTACK.replace("self.share *", "0 *"))
    said = check()
    assert "of attacks whose code, libraries or, of a transfer, source network are others" in said
    assert "Brighten" in said


def test_two_files_of_one_name_are_two_attacks(segbench, workspace: Path, tmp_path: Path) -> None:
    texts = [f"{write(tmp_path / name)}:Brighten" for name in ("a", "b")]
    result = segbench(
        "attack", "-a", texts[0], "-a", texts[1], "--eps", "4/255", "--limit", "2",
        "--workspace", workspace,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert cells(segbench, workspace) == {"clean", "a/mine:Brighten", "b/mine:Brighten"}


def test_an_attack_of_ones_own_that_fails_is_named(
    segbench, workspace: Path, tmp_path: Path
) -> None:
    mine = write(tmp_path / "attacks")
    for name, words in (
        ("Crash", "KeyError: 'oh no'"),
        ("One", "ContractError: run returned images of (1, 32, 32) float32 on cpu; expected (1, 1"),
    ):
        result = segbench(
            "attack", "-a", f"{mine}:{name}", "--eps", "4/255", "--limit", "2",
            "--workspace", workspace,
        )  # fmt: skip
        assert result.exit_code == 3
        assert f"attack mine:{name} of mine.py failed on " in " ".join(result.stderr.split())
        assert words in " ".join(result.stderr.split())


NETWORK = """
from torch import nn

class Net(nn.Module):
    def forward(self, images):
        if ((images == 0) | (images == 1)).float().mean() > 0.9:
            raise RuntimeError("too hard")
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))

def build():
    return Net()
"""


def test_a_network_that_fails_under_an_attack_is_named_and_not_the_attack(
    segbench, tmp_path: Path
) -> None:
    """At an eps of the whole pixel range a step makes every pixel black or white."""
    net = tmp_path / "net.py"
    net.write_text(NETWORK)
    result = segbench(
        "attack", "-m", f"{net}:build", "-a", "pgd:random_start=false,rel_step=1,steps=2",
        "--dataset", "phantom-cxr:size=32,train_cases=6,test_cases=2", "--eps", "1",
        "--precision", "fp32", "--workspace", tmp_path / "runs",
    )  # fmt: skip
    said = " ".join(result.stderr.split())
    assert result.exit_code == 3, said
    assert "model net:build failed on " in said
    assert "as attacked by pgd" in said
    assert "RuntimeError: too hard" in said
    assert "of segbench failed" not in said
