"""segbench export: files that hold the attack, and the truth about how much of it they hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image


def attack(segbench, workspace, *more: str) -> None:
    result = segbench("attack", "-a", "ifgsm", "--eps", "0.5/255,4/255", "--save-adversarial",
                      "--workspace", workspace, *more)  # fmt: skip
    assert result.exit_code == 0, result.output


def test_kept_images_become_files_within_the_budget(segbench, workspace, tmp_path) -> None:
    attack(segbench, workspace, "--quantize")
    out = tmp_path / "out"
    result = segbench("export", "-m", "unet:width=4,depth=2", "--out", out, "--workspace",
                      workspace)  # fmt: skip
    assert result.exit_code == 0, result.output
    files = pd.read_csv(out / "written.csv")
    assert len(files) == 2 * 6
    assert not files["excess"].any()
    for budget, part in files.groupby("budget"):
        largest = 0 if budget < 1 / 255 else 4
        for path, linf in zip(part["path"], part["linf"], strict=True):
            assert np.asarray(Image.open(out / path)).shape == (32, 32)
            assert linf * 255 == pytest.approx(largest, abs=1e-3)
    assert "generated, and scored, at 32 x 32; files have that size" in result.stderr
    result = segbench("report", "--workspace", workspace)
    assert "ifgsm:quantized=true" in (workspace / "reports" / "report.md").read_text()


def test_only_what_is_asked_for_is_written(segbench, workspace, tmp_path) -> None:
    attack(segbench, workspace)
    result = segbench("export", "-a", "ifgsm", "--eps", "4/255", "--out", tmp_path, "--workspace",
                      workspace)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(tmp_path / "written.csv")) == 6
    for wrong in (("-m", "nlcen"), ("-m", "my_net.py:build"), ("-a", "pgd"), ("--eps", "1/255")):
        result = segbench("export", *wrong, "--workspace", workspace)
        assert result.exit_code == 2
        assert "segbench attack --save-adversarial keeps them" in result.stderr
        said = " ".join(result.stderr.split())
        assert "(it holds ifgsm at 0.00196078 on unet" in said
