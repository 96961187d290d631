"""Networks that would be called the same have a column each, in every table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import Result

NET = """
import torch
from torch import nn
def build():
    torch.manual_seed({seed})
    return nn.Conv2d(1, 1, 3, padding=1)
"""
DATA = "phantom-cxr:size=32,train_cases=2,test_cases=2"


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    """Two files of one name, and two weights files for either."""
    for seed, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(NET.format(seed=seed))
        network = torch.nn.Conv2d(1, 1, 3, padding=1)
        torch.save(network.state_dict(), tmp_path / f"{folder}.pt")
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("-m", "a/net.py:build", "-m", "b/net.py:build"), {"a/net:build", "b/net:build"}),
        (
            (*(2 * ("-m", "a/net.py:build")), "--weights", "a.pt", "--weights", "b.pt"),
            {"net:build (a.pt)", "net:build (b.pt)"},
        ),
    ],
)
def test_each_has_its_own_scores(
    segbench: Callable[..., Result],
    asked: tuple[str, ...],
    expected: set[str],
    nets: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(nets)
    done = segbench("attack", *asked, "-a", "fgsm", "--eps", "8/255", "--dataset", DATA)
    assert done.exit_code == 0, done.output
    done = segbench("report")
    assert done.exit_code == 0, done.output
    curves = pd.read_csv("runs/reports/curves.csv")
    assert set(curves["model"]) == expected
    jaccard = curves[(curves["metric"] == "jaccard") & (curves["budget"] > 0)]
    assert len(jaccard) == jaccard["mean"].nunique() == 2
