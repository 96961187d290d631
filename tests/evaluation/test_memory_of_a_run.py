"""A run that goes on for days holds no more of what it has done than a number for each cell."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from segbench.cli import main
from segbench.evaluation import work

NETWORK = """
from torch import nn

class Dark(nn.Module):
    def forward(self, images):
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))
"""
ATTACKS, EPS, STEP = 25, 20, 50
BYTES = 512  # of a cell that is done: that it was begun and has succeeded, and some change


@pytest.mark.slow
def test_memory_does_not_grow_with_the_cells_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    held: list[int] = []
    append, stored = work.append_shard, 0

    def watched(*given: Any, **more: Any) -> Path:
        nonlocal stored
        path = append(*given, **more)
        stored += 1
        if stored % STEP == 0:
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        return path

    monkeypatch.setattr(work, "append_shard", watched)
    attacks = [f"-a noise:restarts={count}" for count in range(1, ATTACKS + 1)]
    eps = ",".join(f"{level}/255" for level in range(1, EPS + 1))
    tracemalloc.start()
    try:
        done = CliRunner().invoke(
            main,
            ["attack", "-m", f"{tmp_path}/net.py:Dark", *" ".join(attacks).split(), "--eps", eps,
             "--device", "cpu", "--no-pictures", "--workspace", str(tmp_path / "runs"), "--dataset",
             "phantom-cxr:size=32,test_cases=1,train_cases=2"],
        )  # fmt: skip
    finally:
        tracemalloc.stop()
    assert done.exit_code == 0, done.output
    later = held[2:]  # what is made once is there by then
    slope = np.polyfit(STEP * np.arange(len(later)), later, 1)[0]
    print(f"{slope:.0f} bytes a cell; {held[-1] / 2**20:.1f} MiB held in the end")
    assert len(held) == ATTACKS * EPS // STEP
    assert slope < BYTES
