"""segbench export: files that hold the attack, and the truth about how much of it they hold."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segbench.data import open_dataset
from segbench.export.image_files import read_written
from segbench.store.images import kept_cases, kept_cells, latest_cases, load_images
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace


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


NET = """
import torch

class Dark(torch.nn.Module):
    def forward(self, images):
        return torch.cat([8 * images - 4, 4 - 8 * images], 1)
"""


def draw(root, name: str, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 255, (32, 32)).astype(np.uint8)
    for folder, pixels in (("images", image), ("masks", 255 * (image < 128).astype(np.uint8))):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"{name}.png")


def test_of_a_case_that_was_edited_the_present_images_are_written(segbench, tmp_path) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    (tmp_path / "net.py").write_text(NET)
    for n in range(4):
        draw(root, f"c{n}", n)
    (root / "split.csv").write_text("case_id,split\nc0,train\nc1,test\nc2,test\nc3,test\n")
    asked = ("-m", f"{tmp_path}/net.py:Dark", "--dataset", "folder:split=split.csv", "--data-root",
             root, "--workspace", tmp_path / "runs")  # fmt: skip
    export = ("export", "--out", out, "--workspace", tmp_path / "runs")
    attack(segbench, *asked[-1:], *asked[:-2])
    draw(root, "c2", 9)
    result = segbench(*export)
    assert result.exit_code == 2
    assert "(its case c2 is not the same)" in " ".join(result.stderr.split())
    attack(segbench, *asked[-1:], *asked[:-2])
    result = segbench(*export)
    assert result.exit_code == 0, result.output
    files = pd.read_csv(out / "written.csv")
    assert files["case_id"].value_counts().to_dict() == {"c1": 2, "c2": 2, "c3": 2}
    assert not files["excess"].any()


def test_images_are_of_a_content_whatever_its_cases_are_called(segbench, tmp_path) -> None:
    """One file for each case; what fits no case any more leaves the others written and listed."""
    root, out = tmp_path / "data", tmp_path / "out"
    (tmp_path / "net.py").write_text(NET)
    for n in range(3):
        draw(root, f"c{n}", n)
    runs = ("--workspace", tmp_path / "runs")
    asked = ("-m", f"{tmp_path}/net.py:Dark", "--dataset", "folder", "--data-root", root)
    attack(segbench, *runs[1:], *asked)

    def exported(status: int) -> dict[str, int]:
        result = segbench("export", "--out", out, *runs)
        assert result.exit_code == status, result.output
        files = pd.read_csv(out / "written.csv")
        assert all((out / path).exists() for path in files["path"])
        assert not files["excess"].any()
        return files["case_id"].value_counts().to_dict()

    for folder in ("images", "masks"):
        (root / folder / "c0.png").rename(root / folder / "a0.png")
    assert exported(0) == {"a0": 2, "c1": 2, "c2": 2}
    draw(root, "a1", 0)  # a0 again
    attack(segbench, *runs[1:], *asked)
    assert exported(0) == {"a0": 2, "a1": 2, "c1": 2, "c2": 2}
    draw(root, "c2", 9)
    assert exported(2) == {"a0": 2, "a1": 2, "c1": 2}


def test_of_a_corruption_the_file_shows_what_was_scored(segbench, tmp_path) -> None:
    """Voxels that the window clips among them."""
    root, out, runs = tmp_path / "data", tmp_path / "out", tmp_path / "runs"
    (tmp_path / "net.py").write_text(NET)
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for n in range(2):
        voxels = (900 * random.random((16, 16, 4))).astype(np.float32)
        voxels[4:9, 3], voxels[9:, 7] = 20_000, -7_000
        for folder, values in (("images", voxels), ("masks", (voxels > 400).astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), root / folder / f"v{n}.nii.gz")
    spec = "folder:mode=slices,lower=10,upper=90"
    result = segbench("attack", "-m", f"{tmp_path}/net.py:Dark", "--dataset", spec, "--data-root",
                      root, "-a", "corruption/motion:severities=5", "--limit", "3",
                      "--save-adversarial", "--workspace", runs)  # fmt: skip
    assert result.exit_code == 0, result.output
    result = segbench("export", "--out", out, "--workspace", runs)
    assert result.exit_code == 0, result.output
    assert "clips it away" not in result.stderr
    files = pd.read_csv(out / "written.csv").set_index("case_id")
    assert files["excess"].isna().all()
    data = open_dataset(spec, root)
    (cell,) = kept_cells(Workspace(runs))
    kept = kept_cases(Workspace(runs), cell.key)
    assert len(files) == len(kept) == 3
    for content, file in kept.items():
        made = load_images(file, [content])
        (name,), (image,) = made.case_ids, made.images.numpy()
        back = read_written(out / files.loc[name, "path"], data.load(name))
        np.testing.assert_allclose(back, image, atol=1e-6)


MEAN = """
import torch

class Dark(torch.nn.Module):
    def forward(self, images):
        bright = 8 * images.mean(1, keepdim=True) - 4
        return torch.cat([bright, -bright], 1)
"""


def two_channels(root) -> None:
    """Volumes of a byte channel and a signed one, each with values far beyond its others."""
    random = np.random.default_rng(0)
    for n in range(2):
        mask = np.zeros((12, 14, 6), np.uint8)
        mask[3:9, 4:10, 1:5] = 1
        byte = (60 + 80.0 * mask + random.normal(0, 10, mask.shape)).clip(0, 255).astype(np.uint8)
        signed = (700.0 * mask - 500 + random.normal(0, 200, mask.shape)).astype(np.int16)
        signed[0, 0, :3] = 9000
        files = {f"images/p{n}_0000": byte, f"images/p{n}_0001": signed, f"masks/p{n}": mask}
        for name, values in files.items():
            path = root / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


@pytest.mark.parametrize("options", ["", ",size=16"])
def test_what_windows_clip_is_counted_as_kept_or_as_lost(options, segbench, tmp_path) -> None:
    """Of every file of a case; kept with the change on top, or lost where cases were resized."""
    root, out, runs = tmp_path / "data", tmp_path / "out", tmp_path / "runs"
    (tmp_path / "net.py").write_text(MEAN)
    two_channels(root)
    spec = f"folder:mode=volumes,lower=1,upper=99{options}"
    result = segbench("attack", "-m", f"{tmp_path}/net.py:Dark", "--dataset", spec, "--data-root",
                      root, "-a", "fgsm", "--eps", "8/255", "-a", "corruption/noise:severities=2",
                      "--save-adversarial", "--workspace", runs)  # fmt: skip
    assert result.exit_code == 0, result.output
    result = segbench("export", "--out", out, "--workspace", runs)
    assert result.exit_code == 0, result.output
    files = pd.read_csv(out / "written.csv", keep_default_na=False)
    data = open_dataset(spec, root)
    assert len(files) == 4
    for file in files.to_dict("records"):
        case = data.load(file["case_id"])
        own = [nibabel.load(path).get_fdata() for path in data.image_files(file["case_id"])]
        beyond = np.stack([(values < scale.low) | (values > scale.high)
                           for values, scale in zip(own, case.intensity, strict=True)])  # fmt: skip
        assert (beyond.sum((1, 2, 3)) > 5).all()
        lost = bool(options) or file["budget_kind"] == "severity"
        assert (file["clipped"] > 0) == lost
        assert (file["outside"] > 0) == (not lost)
        if options or not lost:
            assert file["outside"] + file["clipped"] == beyond.sum()
        if not lost:
            written = np.moveaxis(nibabel.load(out / file["path"]).get_fdata(), -1, 0)
            for got, values, scale in zip(written, own, case.intensity, strict=True):
                assert np.abs(got - values).max() <= 8 / 255 * (scale.high - scale.low)
    assert (files["beyond"] == 0).all()
    said = " ".join(result.stderr.split())
    assert ("their change is in the files" in said) == (not options)
    assert "are written as the windows' ends" in said
    assert "than their rounding explains" not in said


def test_of_moved_truth_it_is_said_how_it_is_read(segbench, tmp_path) -> None:
    """Ignored pixels are a value that is named, and never what -100 is in a byte."""
    root, out, runs = tmp_path / "data", tmp_path / "out", tmp_path / "runs"
    (tmp_path / "net.py").write_text(NET)
    random = np.random.default_rng(0)
    for n in range(2):
        values = np.kron(random.random((6, 7)), np.ones((4, 4)))
        truth = np.where(values < 0.45, 20, 10)
        truth[:3] = 99
        for folder, pixels in (("images", 250 * values), ("masks", truth)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"c{n}.png")
    spec, severest = "folder:rois=99,values=10+20", "worst/pose:severities=5"
    result = segbench("attack", "-m", f"{tmp_path}/net.py:Dark", "--dataset", spec, "--data-root",
                      root, "-a", severest, "--save-adversarial", "--workspace", runs)  # fmt: skip
    assert result.exit_code == 0, result.output
    result = segbench("export", "--out", out, "--workspace", runs)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "they are read with these options: the data set's own; ignored pixels are 99" in said
    files = pd.read_csv(out / "written.csv", keep_default_na=False)
    assert set(files["truth_options"]) == {"the data set's own"}
    assert set(files["truth_ignored"].astype(str)) == {"99"}
    for path in files["truth"]:
        assert set(np.unique(np.asarray(Image.open(out / path))).tolist()) == {10, 20, 99}


@pytest.mark.parametrize("kind", ["pictures", "volumes"])
def test_of_an_image_that_moved_the_truth_is_written_that_it_was_scored_against(
    kind: str, segbench, tmp_path
) -> None:
    root, out, runs = tmp_path / "data", tmp_path / "out", tmp_path / "runs"
    (tmp_path / "net.py").write_text(NET)
    random = np.random.default_rng(0)
    turned = np.array([[0, 0, 4.0, 1], [-2.0, 0, 0, 2], [0, 3.0, 0, 3], [0, 0, 0, 1]])
    for n in range(2):
        spots = random.random((4, 5, 4) if kind == "volumes" else (6, 7))
        values = np.kron(spots, np.ones((4,) * spots.ndim))
        for folder, voxels in (("images", 250 * values), ("masks", values < 0.45)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            file = root / folder / f"c{n}"
            if kind == "volumes":
                image = nibabel.Nifti1Image(voxels.astype(np.uint8), turned)
                nibabel.save(image, file.with_suffix(".nii.gz"))
            else:
                Image.fromarray(voxels.astype(np.uint8)).save(file.with_suffix(".png"))
    spec = f"folder:mode={kind}" if kind == "volumes" else "folder"
    result = segbench("attack", "-m", f"{tmp_path}/net.py:Dark", "--dataset", spec, "--data-root",
                      root, "-a", "worst/pose:severities=5", "-a", "ifgsm", "--eps", "8/255",
                      "--save-adversarial", "--workspace", runs)  # fmt: skip
    assert result.exit_code == 0, result.output
    result = segbench("export", "--out", out, "--workspace", runs)
    assert result.exit_code == 0, result.output
    assert "2 images were moved, and their truth with them" in " ".join(result.stderr.split())
    files = pd.read_csv(out / "written.csv", keep_default_na=False)
    assert (files["moved"] == (files["budget_kind"] == "severity")).all()
    assert ((files["truth"] != "") == files["moved"]).all()
    rows = read_rows(Workspace(runs))
    rows = rows[rows["budget_kind"] == "severity"].set_index("case_id")
    data = open_dataset(spec, root)
    for file in files[files["moved"]].to_dict("records"):
        image = read_written(out / file["path"], data.load(file["case_id"]))[0]
        if kind == "volumes":
            pair = [nibabel.load(out / file[name]) for name in ("path", "truth")]
            np.testing.assert_array_equal(pair[0].affine, pair[1].affine)
            truth = np.asarray(nibabel.as_closest_canonical(pair[1]).dataobj) == 1
        else:
            truth = np.asarray(Image.open(out / file["truth"])) == 1
        predicted = image < 0.5
        jaccard = (predicted & truth).sum() / (predicted | truth).sum()
        assert jaccard == pytest.approx(rows.loc[file["case_id"], "jaccard"], abs=0.003)
        assert (truth != data.load(file["case_id"]).labels).mean() > 0.02


def test_of_images_that_were_made_twice_the_last_are_written(segbench, workspace, tmp_path) -> None:
    """As before and after an edit of an attack; here by gradients of another precision."""
    attack(segbench, workspace, "--limit", "4")
    attack(segbench, workspace, "--limit", "2", "--precision", "fp32")
    cells = kept_cells(Workspace(workspace))
    assert len(cells) == 4
    result = segbench("export", "--out", tmp_path / "out", "--workspace", workspace)
    assert result.exit_code == 0, result.output
    files = pd.read_csv(tmp_path / "out" / "written.csv")
    assert len(files) == len(files.drop_duplicates(["model", "attack", "budget", "case_id"])) == 8
    assert "4 kept images are left out" in " ".join(result.stderr.split())
    images, older = latest_cases(Workspace(workspace), cells)
    assert [len(own) for own in images.values()] == [2, 2, 2, 2]
    assert older == 4
