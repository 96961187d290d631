"""What is wrong with files is said once a file, and a long list is counted."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from segbench.cli import main
from segbench.data.faults import NAMED, listed


def test_a_fault_is_named_once_and_a_long_list_is_counted() -> None:
    assert listed(["a is bad", "b is bad", "a is bad"]) == "a is bad; b is bad"
    many = listed(f"{n} is bad" for n in range(NAMED + 7))
    assert many.count("is bad") == NAMED
    assert many.endswith("; and 7 more")


@pytest.mark.parametrize("mode", ["slices", "volumes"])
def test_a_volume_with_nan_is_named_once_however_many_slices_it_has(
    tmp_path: Path, mode: str
) -> None:
    random = np.random.default_rng(0)
    voxels = random.random((8, 8, 6)).astype(np.float32)
    mask = (voxels > 0.5).astype(np.uint8)
    voxels[2, 2, 3] = np.nan
    for folder, array in (("images", voxels), ("masks", mask)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        path = tmp_path / "data" / folder / "a.nii.gz"
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    net = tmp_path / "net.py"
    net.write_text(
        "from torch import nn\n\ndef build():\n"
        f"    return nn.Conv{2 if mode == 'slices' else 3}d(1, 2, 1)\n"
    )
    done = CliRunner().invoke(
        main,
        ["attack", "-m", f"{net}:build", "-a", "fgsm", "--eps", "2/255", "--dataset",
         f"folder:mode={mode}", "--data-root", str(tmp_path / "data"), "--workspace",
         str(tmp_path / "runs")],
    )  # fmt: skip
    assert done.exit_code == 2, done.output
    assert done.output.count("holds voxels that are NaN or infinite") == 1
    assert "a.nii.gz" in done.output
