"""Bad input gets one clear sentence and status 2; a failing machine one sentence and status 3."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from segbench.store import rowfile


def refused(result: Result, status: int, *words: str) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == status, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(lines) == 1, result.stderr
    assert not {"Traceback", "Usage:"} & set(result.output.split())
    for word in words:
        assert word in lines[0]
    return lines[0]


def image_folder(root: Path, cases: int = 4, side: int = 16) -> Path:
    rng = np.random.default_rng(0)
    for room in ("images", "masks"):
        (root / room).mkdir(parents=True)
    for index in range(cases):
        pixels = rng.integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"case{index}.png")
        mask = (pixels > 128).astype(np.uint8) * 255
        Image.fromarray(mask).save(root / "masks" / f"case{index}.png")
    return root


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("train", "unte"), ("unknown model 'unte'", "did you mean 'unet'")),
        (("train", "unet:widht=8"), ("'widht'", "did you mean 'width'")),
        (("train", "unet:width=lots"), ("width='lots'", "whole number")),
        (("train", "unet:width=0"), ("width",)),
        (("train", "unet", "--preset", "fast"), ("unknown preset 'fast'",)),
        (("train", "unet", "--dataset", "jsrrt"), ("did you mean 'jsrt'",)),
        (("train", "unet", "--dataset", "jsrt"), ("--data-root",)),
        (("atack",), ("did you mean 'attack'",)),
        (("report", "-f", "pdf"), ("unknown report 'pdf'", "markdown")),
    ],
)
def test_wrong_names_are_named_with_the_nearest_valid_one(
    segbench, tmp_path, args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    extra = () if args == ("atack",) else ("--workspace", tmp_path / "runs")
    refused(segbench(*args, *extra), 2, *words)
    assert not (tmp_path / "runs" / "models").exists()


@pytest.mark.parametrize("eps", ["-1", "nan", "inf", "8/0", "0.03abc", "", "1/255,,2/255", "1//2"])
def test_an_eps_that_is_no_budget_is_refused(segbench, workspace, eps: str) -> None:
    result = segbench("attack", f"--eps={eps}", "--workspace", workspace)
    refused(result, 2, "expected a number of zero or more")


@pytest.mark.parametrize(
    ("attack", "word"),
    [
        ("pgdd", "did you mean 'pgd'"),
        ("pgd:setps=3", "did you mean 'steps'"),
        ("pgd:steps=0", "must be positive"),
        ("pgd:steps=", "whole number"),
        ("pgd:steps=3,steps=4", "twice"),
        ("pgd:", "not a spec"),
        ("ifgsm:labels=lies", "one of truth, prediction"),
        ("ifgsm:steps=3", "preset=paper fixes steps"),
        ("clean", "always measured"),
        ("pgd:restarts=-1", "restarts=-1 must be positive"),
        ("pgd:rel_step=nan", "is not a number"),
        ("pgd:target=class:9", "classes 0 to 1 only"),
        ("pgd:target=file:/nowhere", "there is no such folder"),
        ("pgd:target=shift,labels=prediction", "leave it out with target"),
        ("apgd:norm=l0", "one of linf, l2, l1"),
        ("apgd:steps=0", "must be positive"),
        ("mifgsm:decay=-1", "must not be negative"),
        ("sea:steps=2", "at least 4"),
        ("square:norm=l1", "one of linf, l2"),
        ("square:restarts=-1", "at least 1"),
        ("square:p_init=0", "above 0"),
        ("rays:starts=0", "at least 1"),
        ("noise:restarts=0", "at least 1"),
        ("frequency:share=2", "at most 1"),
        ("frequency:norm=l1", "choose linf or l2"),
        ("dag:below=1.5", "dag: below=1.5 must lie between 0 and 1"),
        ("alma-prox:steps=0", "at least 1"),
        ("asma:beta=-1", "must not be negative"),
        ("uap:target=file:/nowhere", "cannot learn"),
        ("patch:area=0", "no share of an image"),
        ("patch:area=0.0001", "less than a pixel"),
        ("patch:position=left", "one of random, centre, corner"),
        ("corruption/blur:severities=0", "some of 1 to 5"),
        ("corruption/blur:severities=6", "some of 1 to 5"),
        ("corruption/blur:severities=2.5", "whole numbers"),
        ("corruption/blr", "did you mean 'blur'"),
        ("art/DeepFool", "asks for a classifier"),
        ("art/ProjectedGradientDescent:num_random_init=-1", "must not be negative"),
        ("art/SquareAttack:p_init=2", "wider than its squares"),
        ("transfer", "needs a source"),
        ("transfer:source=nothing", "unknown model 'nothing'"),
        ('transfer:source="unet:width=4,depth=2",attack="pgd:steps=0"', "must be positive"),
    ],
)
def test_a_wrong_attack_is_refused(segbench, workspace, attack: str, word: str) -> None:
    eps = () if attack.startswith("patch") else ("--eps", "0.03")
    refused(segbench("attack", "-a", attack, *eps, "--workspace", workspace), 2, word)


@pytest.mark.parametrize(
    "attack",
    [
        "pgd:target=class:9",
        "uap:target=class:9",
        'transfer:source="unet:width=4,depth=2",attack="pgd:target=class:9"',
    ],
)
def test_a_target_that_the_data_lack_is_refused_before_any_cell(
    segbench, workspace, attack: str
) -> None:
    result = segbench("attack", "-a", "fgsm", "-a", attack, "--eps", "0.03",
                      "--workspace", workspace)  # fmt: skip
    refused(result, 2, "target='class:9': the data has classes 0 to 1 only")
    assert not list((workspace / "results").rglob("*.parquet"))


def test_a_target_that_the_data_lack_is_refused_before_any_training(segbench, tmp_path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(
        "attacks = ['fgsm', 'pgd:target=class:9']\neps = ['1/255']\n"
        "[train]\nmodels = ['unet:width=2,depth=1']\nepochs = 1\n"
    )
    result = segbench("run", grid, "--workspace", tmp_path / "runs")
    refused(result, 2, "target='class:9': the data has classes 0 to 1 only")
    assert not (tmp_path / "runs" / "models").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("export",), "holds none"),
        (("export", "-m", "unte"), "--save-adversarial keeps them"),
        (("export", "-a", "pgdd"), "did you mean 'pgd'"),
        (("export", "--eps", "0.03abc"), "expected a number of zero or more"),
        (("diagnose", "unte"), "did you mean 'unet'"),
        (("diagnose", "unet:width=4,depth=2", "--eps", "0"), "no budget to compare attacks at"),
        (("diagnose", "unet:width=4,depth=2", "--split", "tset"), "no split 'tset'"),
        (("attack", "--eps", "0.03", "--device", "tpu"), "cannot be used here"),
        (("attack", "--batch-size", "0"), "--batch-size"),
        (("attack", "--eps", "0.03", "--limit", "1" + 22 * "0"), "--limit"),
        (("attack", "--eps", "0.03", "--seed", "1" + 22 * "0"), "seeds has the entry 1000"),
        (("train", "unet", "--epochs", "1" + 22 * "0"), "--epochs"),
        (("attack", "-a", "corruption/blur", "--eps", "1/255"), "eps means nothing to"),
        (("attack", "--eps", "0.03", "--split", "tset"), "no split 'tset'"),
    ],
)
def test_other_commands_refuse_in_one_sentence(
    segbench, workspace, args: tuple[str, ...], words: str
) -> None:
    refused(segbench(*args, "--workspace", workspace), 2, words)


def test_levels_that_a_file_does_not_have_are_named(segbench, workspace, tmp_path) -> None:
    """A NIfTI volume of floating-point numbers is on no levels to be rounded to."""
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    for room in ("images", "masks"):
        (tmp_path / "data" / room).mkdir(parents=True)
    for n in range(2):
        for room, values in (
            ("images", rng.random((32, 32, 2))),
            ("masks", np.eye(32)[..., None] * [1, 1]),
        ):
            kind = np.float32 if room == "images" else np.uint8
            volume = nibabel.Nifti1Image(values.astype(kind), np.eye(4))
            nibabel.save(volume, tmp_path / "data" / room / f"case{n}.nii.gz")
    result = segbench("attack", "-a", "fgsm", "--eps", "0.03", "--quantize", "--dataset", "folder",
                      "--data-root", tmp_path / "data", "--workspace", workspace)  # fmt: skip
    refused(result, 2, "quantize")


def test_attacking_nothing_names_the_command_that_trains(segbench, tmp_path) -> None:
    result = segbench("attack", "--eps", "0.03", "--workspace", tmp_path)
    refused(result, 2, "segbench train")
    refused(segbench("report", "--workspace", tmp_path), 2, "segbench attack")


def test_data_that_cannot_be_used_is_named_file_by_file(segbench, tmp_path) -> None:
    def train(root: Path) -> Result:
        return segbench("train", "unet:width=2,depth=2", "--dataset", "folder", "--data-root", root,
                        "--workspace", tmp_path / "runs", "--epochs", "1")  # fmt: skip

    (tmp_path / "empty").mkdir()
    refused(train(tmp_path / "empty"), 2, "images")
    root = image_folder(tmp_path / "text")
    (root / "images" / "case1.png").write_text("not an image")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "masks" / "case2.png")
    (root / "masks" / "case3.png").unlink()
    refused(train(root), 2, "case1", "case2", "case3")


@pytest.mark.parametrize("damage", ["truncated", "pickle"])
def test_a_damaged_checkpoint_is_refused_and_never_unpickled(
    segbench, workspace, tmp_path, damage: str
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    weights = next(workspace.glob("models/*/model.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:100] if damage == "truncated" else pickle.dumps(Bomb()))
    refused(segbench("attack", "--eps", "0.03", "--workspace", workspace), 2, "model.safetensors")
    foreign = tmp_path / "net.pt"
    foreign.write_bytes(weights.read_bytes())
    net = tmp_path / "net.py"
    net.write_text("from torch import nn\ndef build(): return nn.Conv2d(1, 1, 1)\n")
    result = segbench("attack", "-m", f"{net}:build", "--weights", foreign, "--eps", "0.03",
                      "--dataset", "phantom-cxr", "--workspace", workspace)  # fmt: skip
    refused(result, 2, "net.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ("nn.Conv2d(3, 1, 1)", 2, "it takes 3-channel images"),
        ("nn.Conv2d(1, 5, 1)", 2, "5 channels"),
        ("nn.Conv2d(1, 1, 3)", 2, "of the same size"),
        ("nn.Flatten()", 2, "returned"),
        ("42", 2, "expected a Module"),
        ("1 / 0", 3, "ZeroDivisionError"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(
    segbench, tmp_path, body: str, status: int, word: str
) -> None:
    net = tmp_path / "net.py"
    net.write_text(f"from torch import nn\ndef build(): return {body}\n")
    result = segbench("attack", "-m", f"{net}:build", "--eps", "0.03", "--dataset", "phantom-cxr",
                      "--limit", "2", "--workspace", tmp_path / "runs")  # fmt: skip
    refused(result, status, word)


def test_a_workspace_that_is_a_file_is_refused(segbench, tmp_path, monkeypatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    refused(segbench("report", "--workspace", file), 2, f"'{file}' is a file")
    monkeypatch.setenv("SEGBENCH_WORKSPACE", str(file))
    refused(segbench("report"), 2, f"'{file}' is a file")


def test_a_read_only_workspace_is_the_machines_failure(segbench, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    result = segbench("train", "unet", "--workspace", tmp_path / "file" / "runs")
    refused(result, 3, "cannot be written")


def test_a_full_disk_keeps_what_is_finished(segbench, workspace, monkeypatch) -> None:
    """The disk fills up after two shards; the next run finds them."""
    real, written = rowfile.write_atomically, []

    def fill(*args: object) -> None:
        written.append(args)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*args)  # type: ignore[arg-type]

    attack = ("attack", "-a", "fgsm", "--eps", "1/255,2/255,4/255", "--workspace", workspace)
    with monkeypatch.context() as patch:
        patch.setattr(rowfile, "write_atomically", fill)
        refused(segbench(*attack), 3, "No space left on device")
    assert "12 scores computed, 12 found" in segbench(*attack).output


def test_a_damaged_store_is_named(segbench, workspace) -> None:
    segbench("attack", "-a", "fgsm", "--eps", "1/255", "--workspace", workspace)
    run = next((workspace / "results").glob("*.parquet"))
    run.write_bytes(run.read_bytes()[:50])
    refused(segbench("report", "--workspace", workspace), 2, run.name)


def test_a_golden_file_that_is_none_is_refused(segbench, workspace, tmp_path) -> None:
    segbench("attack", "-a", "fgsm", "--eps", "1/255", "--workspace", workspace)
    golden = tmp_path / "golden.csv"
    check = ("check", "--golden", golden, "--workspace", workspace)
    refused(segbench(*check), 2, "does not exist", "--update")
    golden.write_text("a,b\n1,2\n")
    refused(segbench(*check), 2, "golden.csv")
    segbench(*check, "--update")
    refused(segbench(*check, "--tolerance", "-1"), 2, "tolerance")


def test_a_wrong_grid_file_is_refused(segbench, tmp_path) -> None:
    grid = tmp_path / "grid.toml"
    for text, word in (
        ("eps = [", "not TOML"),
        ("attacks = ['pgd']", "--eps"),
        ("eps = [1]\nepz = 3", "did you mean 'eps'"),
        ("eps = ['8/0']", "8/0"),
        ("eps = ['1/255']\nlimit = 0", "limit"),
    ):
        grid.write_text(text)
        refused(segbench("run", grid, "--workspace", tmp_path / "runs"), 2, word)


def test_debug_shows_the_traceback(segbench, tmp_path) -> None:
    result = segbench("--debug", "report", "--workspace", tmp_path)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
