"""Reading a file does nothing but read: no process, no network, no code, no file written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segbench.data.rasters import inspect_image, read_image, read_mask
from segbench.data.volumes import inspect_volume, read_label_volume, read_voxels
from segbench.evaluation.grid_file import load_grid_file
from segbench.networks.scripted import load_archive
from segbench.store.images import kept_cells, load_images
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.tensors import load_tensors
from segbench.store.workspace import Workspace
from segbench.tables.golden import read_golden
from segbench.tables.golden_cases import read_cases
from segbench.training.card import load_card
from segbench.training.checkpoint import load_checkpoint
from segbench.training.weights import load_weights

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ACTS = (
    "exec", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "os.system",
    "pickle.find_class", "shutil.", "socket.", "subprocess.", "tempfile.", "urllib.",
)  # fmt: skip
_heard: list[str] = []
_listening = False


def _listen(event: str, arguments: Any) -> None:
    if not _listening:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and path != os.devnull:
            _heard.append(f"open {path} for writing")
    elif event.startswith(_ACTS):
        _heard.append(f"{event} {arguments}")


sys.addaudithook(_listen)


@contextmanager
def only_reading(*, runs_own_code: bool = False) -> Iterator[None]:
    """Fails where anything is done but reading."""
    global _listening
    _heard.clear()
    _listening = True
    try:
        yield
    finally:
        _listening = False
    assert [one for one in _heard if not (runs_own_code and one.startswith("exec "))] == []


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))


def _weights(path: Path) -> None:
    load_weights(_net(), path)


def _image(path: Path) -> None:
    inspect_image(path)
    read_image(path)


def _volume(path: Path) -> None:
    inspect_volume(path)
    read_voxels(path)


def _all_images(root: Path) -> None:
    for cell in kept_cells(Workspace(root)):
        for path in (root / "adversarial" / cell.key).glob("[0-9]*.safetensors"):
            load_images(path)


def _fits(root: Path) -> None:
    for path in root.glob("adversarial/*/fitted.safetensors"):
        load_tensors(path)


def _trained(root: Path) -> Path:
    return next((root / "models").iterdir())


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an image": (_image, "image.png"),
    "a photograph": (_image, "image.jpg"),
    "a scan": (_image, "image.tif"),
    "a mask": (read_mask, "image.png"),
    "a volume": (_volume, "volume.nii.gz"),
    "labels of a volume": (read_label_volume, "labels.nii.gz"),
    "weights by torch": (_weights, "weights.pt"),
    "weights": (_weights, "weights.safetensors"),
    "an exported network": (lambda path: load_archive(path.read_bytes(), path), "net.pt2"),
    "a scripted network": (lambda path: load_archive(path.read_bytes(), path), "net.ts"),
    "a checkpoint": (lambda root: load_checkpoint(_trained(root)), ""),
    "a card": (lambda root: load_card(_trained(root)), ""),
    "rows": (lambda root: read_rows(Workspace(root)), ""),
    "runs": (lambda root: read_runs(Workspace(root)), ""),
    "kept images": (_all_images, ""),
    "fits": (_fits, ""),
    "golden scores": (read_golden, "golden.csv"),
    "golden cases": (read_cases, "golden.cases.jsonl"),
    "a grid": (load_grid_file, "grid.toml"),
}


RUN_OWN_CODE = {
    "an exported network",  # torch writes its checked graph as Python; test_hostile_files.py
    "a grid",  # pydantic evaluates the annotations of our own records
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Honest files of those names."""
    from safetensors.torch import save_file

    folder, values = tmp_path_factory.mktemp("files"), np.zeros((16, 16), np.uint8)
    values[4:9, 4:9] = 1
    for suffix in ("png", "jpg", "tif"):
        Image.fromarray(values).save(folder / f"image.{suffix}")
    volume = np.stack([values] * 3, -1)
    nibabel.save(nibabel.Nifti1Image(volume.astype("f4"), np.eye(4)), folder / "volume.nii.gz")
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "labels.nii.gz")
    net, example = _net(), torch.zeros(2, 1, 16, 16)
    torch.save(net.state_dict(), folder / "weights.pt")
    save_file(net.state_dict(), folder / "weights.safetensors")
    torch.jit.save(torch.jit.trace(net, example), str(folder / "net.ts"))
    torch.export.save(torch.export.export(net, (example,)), folder / "net.pt2")
    return folder


def test_the_listener_hears(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="for writing"), only_reading():
        (tmp_path / "left").write_text("behind")
    with pytest.raises(AssertionError, match="exec"), only_reading():
        exec("1")


@pytest.mark.parametrize("kind", FILES)
def test_reading_a_file_does_nothing_else(
    kind: str, written: Path, made: Callable[[str], Path]
) -> None:
    load, name = FILES[kind]
    place = written if (written / name).is_file() else made("runs")
    load(place / name)  # first: what it imports and compiles is Python's own doing
    with only_reading(runs_own_code=kind in RUN_OWN_CODE):
        load(place / name)
