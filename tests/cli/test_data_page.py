"""docs/data.md: its commands run, on data like those it speaks of, and name every option."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
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


def blocks() -> list[list[str]]:
    found = re.findall(r"```console\n(.*?)```", PAGE, re.S)
    lines = [[line.removeprefix("$ segbench ") for line in block.splitlines()] for block in found]
    return [one for block in lines for one in ([block] if "export" in block[-1] else zip(block))]


def my_data(_: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (Path("my_data") / name).mkdir(parents=True)
        for n in range(2):
            pixels = random.integers(0, 2, (16, 16)).astype(np.uint8) * 255
            Image.fromarray(pixels).save(f"my_data/{name}/scan{n}.png")


def hippocampus(data: Path) -> None:
    """Three real volumes as nnU-Net has them."""
    root = Path("nnUNet_raw/Dataset004_Hippocampus")
    names = []
    for image in sorted((data / "msd_hippocampus" / "images").iterdir())[:3]:
        names.append(image.name.removesuffix(".gz").removesuffix(".nii"))
        ending = image.name.removeprefix(names[-1])
        for folder, source, name in (
            ("imagesTr", image, f"{names[-1]}_0000{ending}"),
            ("labelsTr", data / "msd_hippocampus" / "masks" / image.name, image.name),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / name).symlink_to(source)
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    description = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps(description))
    fold = {"train": names[1:], "val": names[:1]}
    (root / "splits_final.json").write_text(json.dumps([fold]))


def dicom(data: Path) -> None:
    """Two real series, and as labels what is bright in them, in a NIfTI file beside."""
    import nibabel

    from segbench.data.dicom_series import read_series, sort_series
    from segbench.data.dicom_tree import read_headers
    from segbench.data.faults import Faults

    pytest.importorskip("pydicom")
    shutil.copytree(data / "dicom_hippocampus", "my_dicom")
    Path("my_dicom/labels").mkdir()
    faults = Faults(Path("my_dicom"))
    for series in sort_series(list(read_headers(Path("my_dicom"), faults)), faults):
        voxels = read_series(series)[0]
        bright = (voxels > np.percentile(voxels, 70)).astype(np.uint8)
        mask = nibabel.Nifti1Image(bright, series.header.canonical)
        nibabel.save(mask, f"my_dicom/labels/{series.files[0].parent.name}.nii.gz")


def jsrt(data: Path) -> None:
    """Two real radiographs as JSRT and SCR are released."""
    for n, image in enumerate(sorted((data / "jsrt_lungs" / "images").iterdir())[:2]):
        pixels = np.asarray(Image.open(image).resize((2048, 2048))).astype(np.uint16)
        fold = Path(f"JSRT/fold{n % 2 + 1}/masks")
        both = np.asarray(
            Image.open(data / "jsrt_lungs" / "masks" / image.name).resize((1024, 1024))
        )
        for name, half in (("left lung", slice(512, None)), ("right lung", slice(512))):
            (fold / name).mkdir(parents=True, exist_ok=True)
            mask = np.zeros_like(both)
            mask[:, half] = both[:, half]
            Image.fromarray(mask).save(fold / name / f"{image.stem}.gif")
        (4095 - pixels * 16).astype(">u2").tofile(f"JSRT/{image.stem}.IMG")


def isic(data: Path) -> None:
    """The test set alone."""
    Path("ISIC").mkdir()
    Path("ISIC/isic2016_test").symlink_to(data / "isic2016_test")


NEEDS = {
    "ISIC ": ("isic2016_test", isic),
    "my_data": ("", my_data),
    "nnUNet_raw": ("msd_hippocampus", hippocampus),
    "my_dicom": ("dicom_hippocampus", dicom),
    "JSRT ": ("jsrt_lungs", jsrt),
}


@pytest.mark.parametrize("block", blocks(), ids=lambda b: re.sub(r"\W+", "-", b[0])[24:80])
def test_every_command_runs(
    block: list[str], segbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_net.py").write_text(NET)
    text = " ".join(block)
    made = next((value for name, value in NEEDS.items() if name in text), None)
    there = re.search(r"DATA(/\w+)?", text)
    needs = made[0] if made else there[0].removeprefix("DATA").strip("/") if there else ""
    if (there or needs) and not (DATA / needs).is_dir():
        pytest.skip(f"no real data at {DATA / needs}; set SEGBENCH_TEST_DATA")
    if made:
        made[1](DATA)
    for command in block:
        done = segbench(*shlex.split(command.replace("DATA", str(DATA))))
        assert done.exit_code == 0, done.output
        if command.startswith("attack"):
            assert "1/255 is" in done.output


def test_the_values_file_of_the_page_is_one(tmp_path: Path) -> None:
    (code,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    (tmp_path / "values.toml").write_text(code)
    given = read_values("values.toml", "", (), (), tmp_path)
    assert given
    assert given.names == ("background", "lung", "heart")


def test_every_key_of_a_folder_is_on_the_page() -> None:
    known_elsewhere = {"root", "split_seed", "group_regex", "size", "channels", "mode"}
    keys = {f.name for f in fields(Folder)} - known_elsewhere - {"nsd_tolerance"}
    assert [key for key in sorted(keys) if f"{key}=" not in PAGE] == []
