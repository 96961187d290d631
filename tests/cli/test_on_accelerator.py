"""The whole line on an accelerator: train, attack, in one process or another, report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

pytestmark = pytest.mark.gpu

DATA = "phantom-cxr:size=48,train_cases=16,test_cases=4"
NUMBERS = ["jaccard", "dice", "linf", "l2", "backwards", "member"]
NETWORKS = ["unet:width=4,depth=2", "nlcen:encoder=resnet18,width=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A workspace with two networks, trained on the accelerator."""
    from click.testing import CliRunner

    from segbench.cli import main

    workspace = tmp_path_factory.mktemp("trained")
    for network in NETWORKS:
        told = [
            "train", network, "--dataset", DATA, "--epochs", "4", "--workspace", str(workspace),
            "--device", request.config.getoption("device"),
        ]  # fmt: skip
        result = CliRunner().invoke(main, told)
        assert result.exit_code == 0, result.output
    return workspace


def rows(workspace: Path) -> pd.DataFrame:
    table = read_rows(Workspace(workspace))
    return table.sort_values(["model", "attack", "budget", "case_id", "class_id"])


def attack(segbench: Any, workspace: Path, device: torch.device, *more: str) -> pd.DataFrame:
    told = ["attack", "--workspace", workspace, "--dataset", DATA, "--device", str(device)]
    result = segbench(*told, "--eps", "4/255", "-a", "pgd:steps=8", "-a", "standard@2", *more)
    assert result.exit_code == 0, result.output
    return rows(workspace)


def test_two_runs_are_the_same_to_the_bit(
    trained: Path, segbench: Any, tmp_path: Path, device: torch.device
) -> None:
    first, second = (Path(shutil.copytree(trained, tmp_path / name)) for name in ("a", "b"))
    whole = attack(segbench, first, device)
    attack(segbench, second, device)
    again = rows(second)
    pd.testing.assert_frame_equal(
        whole[NUMBERS].reset_index(drop=True), again[NUMBERS].reset_index(drop=True)
    )
    assert set(whole["marks"]) == {""}
    assert all(text.startswith(device.type) for text in whole["device"])
    report = segbench("report", "--workspace", first)
    assert report.exit_code == 0, report.output


def test_cases_one_at_a_time_are_independent_of_their_company(
    trained: Path, segbench: Any, tmp_path: Path, device: torch.device
) -> None:
    first, second = (Path(shutil.copytree(trained, tmp_path / name)) for name in ("a", "b"))
    alone = ("--batch-size", "1")
    whole, few = (
        attack(segbench, first, device, *alone),
        attack(segbench, second, device, *alone, "--limit", "2"),
    )
    same = whole[whole["case_id"].isin(set(few["case_id"]))]
    pd.testing.assert_frame_equal(
        same[NUMBERS].reset_index(drop=True), few[NUMBERS].reset_index(drop=True)
    )


def test_a_process_on_the_accelerator_computes_what_this_one_does(
    trained: Path, segbench: Any, tmp_path: Path, device: torch.device
) -> None:
    first, second = (Path(shutil.copytree(trained, tmp_path / name)) for name in ("a", "b"))
    here = attack(segbench, first, device)
    told = ["attack", "--workspace", second, "--dataset", DATA, "--executor", "processes"]
    where = ["--devices", "cuda:0"] if device.type == "cuda" else ["--workers", "1"]
    more = ["--eps", "4/255", "-a", "pgd:steps=8", "-a", "standard@2"]
    result = segbench(*told, *where, *more)
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(
        here[NUMBERS].reset_index(drop=True), rows(second)[NUMBERS].reset_index(drop=True)
    )


def test_a_training_repeats_itself_to_the_bit(
    segbench: Any, tmp_path: Path, device: torch.device
) -> None:
    told = ["train", NETWORKS[0], "--dataset", DATA, "--epochs", "3", "--device", str(device)]
    weights = []
    for name in ("a", "b"):
        result = segbench(*told, "--workspace", tmp_path / name)
        assert result.exit_code == 0, result.output
        (file,) = (tmp_path / name).rglob("model.safetensors")
        weights.append(file.read_bytes())
    assert weights[0] == weights[1]
