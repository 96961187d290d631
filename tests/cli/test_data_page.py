"""docs/data.md: its commands run, on data like those it speaks of, and name every option."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.data.layouts.folder import Folder
from segbench.data.values import read_values

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
DATA = Path(
    os.environ.get("SEGBENCH_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared/data")
)
NET = """
import torch

def build(num_classes, spatial_dims):
    kind = torch.nn.Conv2d if spatial_dims == 2 else torch.nn.Conv3d
    torch.manual_seed(0)
    return kind(1, num_classes, 3, padding=1)
"""


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.S)
    return [line.removeprefix("$ segbench ") for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("command", commands(), ids=lambda c: re.sub(r"\W+", "-", c)[24:80])
def test_every_command_runs(
    command: str, segbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if needs := re.search(r"DATA(/\w+)?", command):
        if not (DATA / needs[0].removeprefix("DATA").strip("/")).is_dir():
            pytest.skip(f"no real data at {DATA}; set SEGBENCH_TEST_DATA")
        command = command.replace("DATA", str(DATA))
    monkeypatch.chdir(tmp_path)
    Path("my_net.py").write_text(NET)
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "my_data" / name).mkdir(parents=True)
        for n in range(2):
            pixels = random.integers(0, 2, (16, 16)).astype(np.uint8) * 255
            Image.fromarray(pixels).save(tmp_path / "my_data" / name / f"scan{n}.png")
    done = segbench(*shlex.split(command))
    assert done.exit_code == 0, done.output
    assert "1/255 is" in done.output


def test_the_values_file_of_the_page_is_one(tmp_path: Path) -> None:
    (code,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    (tmp_path / "values.toml").write_text(code)
    given = read_values("values.toml", "", (), None, tmp_path)
    assert given
    assert given.names == ("background", "lung", "heart")


def test_every_key_of_a_folder_is_on_the_page() -> None:
    known_elsewhere = {"root", "split_seed", "group_regex", "size", "channels", "mode"}
    keys = {f.name for f in fields(Folder)} - known_elsewhere - {"nsd_tolerance"}
    assert [key for key in sorted(keys) if f"{key}=" not in PAGE] == []
