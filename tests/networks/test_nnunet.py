"""A trained nnU-Net's folder: rebuilt from its plans, it predicts what nnU-Net predicted."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from math import nan
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from brief import shorten_suites
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.testing import assert_close

from segbench.api import Entry
from segbench.cli import main
from segbench.data import open_dataset
from segbench.data.tiff_stacks import stack_bytes
from segbench.errors import UserError
from segbench.networks.imported import read_import
from segbench.networks.loaded import AGREES
from segbench.networks.nnunet import _dice, agreement
from segbench.networks.nnunet_network import NnunetNetwork, class_logits
from segbench.networks.nnunet_plans import build_network, read_plans
from segbench.networks.resampling import resample, resize
from segbench.networks.tiles import mirrored, nnunet_gaussian, nnunet_starts, slide
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace

pytest.importorskip("dynamic_network_architectures")

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference" / "nnunet"
DATA = Path(os.environ.get("SEGBENCH_TEST_DATA", Path(__file__).parents[2].parent / "shared/data"))


def configuration(dims: int, **changes: Any) -> dict[str, Any]:
    rule = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "patch_size": [8] * dims,
        "spacing": [1.0] * dims,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": rule,
        "resampling_fn_probabilities_kwargs": {**rule, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 2, "features_per_stage": [2, 4],
                "conv_op": f"torch.nn.modules.conv.Conv{dims}d", "kernel_sizes": [[3] * dims] * 2,
                "strides": [[1] * dims, [2] * dims], "n_conv_per_stage": [1, 1],
                "n_conv_per_stage_decoder": [1], "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None,
                "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changes,
    }  # fmt: skip


LABELS = {"background": 0, "front": 1, "back": 2}


def results(
    root: Path,
    name: str = "3d_fullres",
    folds: str = "01",
    labels: Mapping[str, Any] = LABELS,
    channels: int = 1,
    ending: str = ".nii.gz",
    **changes: Any,
) -> Path:
    """A results folder with weights at random."""
    foreground = {"mean": 50.0, "std": 20.0, "percentile_00_5": -20.0, "percentile_99_5": 140.0}
    folder = root / "Dataset001_Test" / f"nnUNetTrainer__nnUNetPlans__{name}"
    folder.mkdir(parents=True, exist_ok=True)
    plans = {
        "dataset_name": "Dataset001_Test", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration(3 if name.startswith("3d") else 2, **changes)},
        "foreground_intensity_properties_per_channel": {
            str(n): foreground for n in range(channels)
        },
    }  # fmt: skip
    dataset: dict[str, Any] = {
        "channel_names": {str(n): f"MRI {n}" for n in range(channels)}, "labels": labels,
        "file_ending": ending,
    }  # fmt: skip
    if any(isinstance(value, list) for value in labels.values()):
        dataset["regions_class_order"] = [1, 2]
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.manual_seed(0)
    for fold in folds:
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        network = build_network(read_plans_without_folds(folder, name))
        network.decoder.seg_layers[-1].bias.data.zero_()  # or one class would win everywhere
        saved = {
            "network_weights": network.state_dict(),
            "logging": {"ema": [np.float64(0.5)]},
            "optimizer_state": {},
            "inference_allowed_mirroring_axes": (0, 1),
        }
        torch.save(saved, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def read_plans_without_folds(folder: Path, name: str) -> Any:
    (folder / "fold_x").mkdir(exist_ok=True)
    (folder / "fold_x" / "checkpoint_final.pth").touch()
    plans = read_plans(folder, name, None)
    (folder / "fold_x" / "checkpoint_final.pth").unlink()
    (folder / "fold_x").rmdir()
    return plans


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Four volumes of 9 x 8 x 10 voxels whose first axis runs to the left, one with gaps."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for n in range(4):
        labels = rng.integers(0, 3, (9, 8, 10)).astype(np.uint8)
        image = (labels * 40 + rng.normal(0, 15, labels.shape)).astype(np.float32)
        affine = np.diag([-1.0, 1, 1.5 if n == 3 else 1, 1])
        for folder, array in (("images", image), ("masks", labels)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(array, affine).to_filename(root / folder / f"c{n}.nii.gz")
    return root


SPEC = "folder:mode=volumes,lower=0,upper=100"


def data(volumes: Path, spec: str = SPEC) -> Any:
    return open_dataset(spec, volumes)


def loaded(text: str, dataset: Any) -> Any:
    reference = read_import(text)
    assert reference is not None
    return reference.load(dataset)


def by_hand(network: nn.Module, file: Path, dims: int) -> Tensor:
    """What nnU-Net predicts for a file at the network's own spacing: (K, X, Y, Z) in its order."""
    voxels = torch.from_numpy(nibabel.load(file).get_fdata(dtype=np.float32)).permute(2, 1, 0)  # type: ignore[attr-defined]
    values = ((voxels - voxels.mean()) / voxels.std(correction=0))[None, None]
    ask = mirrored(network.eval(), (0, 1))

    def tiled(image: Tensor) -> Tensor:
        starts = nnunet_starts(image.shape[2:], [8] * dims)
        return slide(image, [8] * dims, starts, nnunet_gaussian([8] * dims), ask)

    with torch.no_grad():
        if dims == 3:
            return tiled(values)[0].permute(0, 3, 2, 1)
        planes = [tiled(values[:, :, z])[0] for z in range(values.shape[2])]
        return torch.stack(planes, 1).permute(0, 3, 2, 1)


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_a_folder_predicts_as_its_steps_say_by_hand(
    name: str, tmp_path: Path, volumes: Path
) -> None:
    folder, dataset = results(tmp_path, name), data(volumes)
    model = loaded(f"nnunet:{folder},folds=1", dataset)
    case = dataset.load("c0")
    model.module.eval().meet(case)
    with torch.no_grad():
        logits = model.module(torch.from_numpy(case.image)[None])[0]
    expected = by_hand(
        model.module.folds[0], volumes / "images" / "c0.nii.gz", 2 if name == "2d" else 3
    )
    assert_close(logits, expected.flip(1), atol=1e-4, rtol=1e-3)  # canonical runs to the right


def raw_set(root: Path, trained: Path, image: bytes, mask: bytes, ending: str) -> Any:
    """nnU-Net's raw data set of one case, of what a folder was trained for."""
    for name, content in (("imagesTr/c_0000", image), ("labelsTr/c", mask)):
        (root / name).parent.mkdir(parents=True)
        (root / f"{name}{ending}").write_bytes(content)
    (root / "dataset.json").write_bytes((trained / "dataset.json").read_bytes())
    return open_dataset("nnunet:lower=0,upper=100", root)


def test_pictures_in_colour_are_seen_as_nnunet_sees_them(tmp_path: Path) -> None:
    """By its NaturalImage2DIO: one file of three channels, one plane."""
    folder = results(
        tmp_path, "2d", "0", {"background": 0, "lesion": 1}, channels=3, ending=".png",
        normalization_schemes=["RGBTo01Normalization"] * 3, use_mask_for_norm=[False] * 3,
    )  # fmt: skip
    rng, files = np.random.default_rng(0), []
    colours = rng.integers(0, 256, (10, 13, 3), dtype=np.uint8)
    for pixels in (colours, rng.integers(0, 2, (10, 13), dtype=np.uint8)):
        files.append(BytesIO())
        Image.fromarray(pixels).save(files[-1], "PNG")
    dataset = raw_set(tmp_path / "raw", folder, *(file.getvalue() for file in files), ".png")
    model, case = loaded(f"nnunet:{folder}", dataset), dataset.load("c")
    model.module.eval().meet(case)
    planes = torch.from_numpy(colours).permute(2, 0, 1)[None] / 255
    ask = mirrored(model.module.folds[0].eval(), (0, 1))
    with torch.no_grad():
        starts, weight = nnunet_starts((10, 13), [8, 8]), nnunet_gaussian([8, 8])
        expected = slide(planes, [8, 8], starts, weight, ask)
        assert_close(model.module(torch.from_numpy(case.image)[None]), expected)


def test_stacks_of_planes_are_seen_as_nnunet_sees_them(tmp_path: Path) -> None:
    """By its Tiff3DIO: (Z, Y, X) as the pages lie, whatever way the patient does."""
    rng, folder = np.random.default_rng(0), results(tmp_path, folds="0", ending=".tif")
    voxels = rng.integers(0, 999, (8, 9, 10), dtype=np.uint16)  # X, Y, Z
    labels = rng.integers(0, 3, (8, 9, 10), dtype=np.uint8)
    dataset = raw_set(tmp_path / "raw", folder, stack_bytes(voxels), stack_bytes(labels), ".tif")
    model, case = loaded(f"nnunet:{folder}", dataset), dataset.load("c")
    model.module.eval().meet(case)
    planes = torch.from_numpy(voxels.astype(np.float32)).permute(2, 1, 0)[None, None]
    planes = (planes - planes.mean()) / planes.std(correction=0)
    starts, tile = nnunet_starts(planes.shape[2:], [8] * 3), [8] * 3
    ask = mirrored(model.module.folds[0].eval(), (0, 1))
    with torch.no_grad():
        expected = slide(planes, tile, starts, nnunet_gaussian(tile), ask).permute(0, 1, 4, 3, 2)
        found = model.module(torch.from_numpy(case.image)[None])
    assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_folds_are_averaged_and_are_part_of_what_a_network_is(
    tmp_path: Path, volumes: Path
) -> None:
    folder, dataset = results(tmp_path), data(volumes)
    case = dataset.load("c3")  # resampled along its last axis
    answers, hashes = [], set()
    for folds in ("0", "1", "0+1"):
        model = loaded(f"nnunet:{folder.parent},folds={folds}", dataset)
        model.module.eval().meet(case)
        with torch.no_grad():
            answers.append(model.module(torch.from_numpy(case.image)[None]))
        hashes.add(model.weights_sha256)
    assert len(hashes) == 3
    assert answers[0].shape == (1, 3, 9, 8, 10)
    assert_close(answers[2], (answers[0] + answers[1]) / 2, atol=1e-4, rtol=1e-4)


def test_a_volume_has_the_grid_that_nnunet_gives_it(tmp_path: Path, volumes: Path) -> None:
    """26 voxels of 0.3 mm are 19.5 of 0.4; 0.3 / 0.4 * 26 in floating point is a little less."""
    folder, dataset = results(tmp_path, folds="0", spacing=[0.4, 0.4, 0.4]), data(volumes)
    module, whole = loaded(f"nnunet:{folder}", dataset).module.eval(), dataset.load("c0")
    image = np.random.default_rng(0).random((1, 26, 25, 24), np.float32)
    module.meet(replace(whole, image=image, spacing=(0.3, 0.3, 0.3)))
    seen = []
    predicted = module._predicted
    module._predicted = lambda image: (seen.append(image.shape), predicted(image))[1]
    with torch.no_grad():
        module(torch.from_numpy(image)[None])
    assert seen == [(1, 18, 19, 19)]


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_its_gradient_is_that_of_its_answer(name: str, tmp_path: Path, volumes: Path) -> None:
    """Through resampling, tiles, mirroring and z-score, by finite differences in double."""
    dataset = data(volumes)
    module = loaded(f"nnunet:{results(tmp_path, name)},folds=0", dataset).module.double().eval()
    case = dataset.load("c3")
    module.meet(case)
    image = torch.from_numpy(case.image)[None].double().requires_grad_()
    weights = torch.linspace(-1, 1, 3).reshape(1, 3, 1, 1, 1).double()
    (gradient,) = torch.autograd.grad((module(image) * weights).sum(), image)
    direction = torch.randn(image.shape, dtype=torch.float64)
    with torch.no_grad():
        h = 1e-6
        ends = [(module(image + s * h * direction) * weights).sum() for s in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx(
        float(ends[0] - ends[1]) / (2 * h), rel=1e-3
    )


def attacked(folder: Path, volumes: Path, *more: str, limit: int = 2) -> tuple[str, Any]:
    """What ``segbench attack`` says, and its rows."""
    runs = folder.parent / "runs"
    done = CliRunner().invoke(main, [
        "attack", "-m", f"nnunet:{folder}", "--limit", str(limit), "--workspace", str(runs),
        "--dataset", SPEC, "--data-root", str(volumes), *more,
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split()), read_rows(Workspace(runs))


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_a_folder_is_attacked_from_the_command_line(
    name: str, tmp_path: Path, volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By PGD; in the plane, where it is cheap, by the standard attack too."""
    shorten_suites(monkeypatch, 4)
    depth = 1 if name == "2d" else 8  # a plane, or two tiles, are enough
    for file in volumes.glob("*/*"):
        nibabel.load(file).slicer[:, :, :depth].to_filename(file)  # type: ignore[attr-defined]
    folder = results(tmp_path, name, folds="0")
    attacks = ["pgd:steps=4", *(["standard:cost=quick"] if name == "2d" else [])]
    chosen = [word for attack in attacks for word in ("-a", attack)]
    output, rows = attacked(folder, volumes, *chosen, "--eps", "0.2", limit=1)
    assert "its classes are front, back, in this order" in output
    assert set(rows["model"]) == {f"nnunet:{folder.name}"}
    means = rows.groupby("attack")["jaccard"].mean()
    assert means[attacks].max() < means["clean"]


def summarise(folder: Path, fold: str, dices: Mapping[str, Any]) -> None:
    """A ``summary.json`` as nnU-Net writes it; of each case its classes' Dice, or by key."""
    cases = [
        {"prediction_file": f"/gone/validation/{name}.nii.gz",
         "metrics": {str(key): {"Dice": dice} for key, dice in
                     (own if isinstance(own, dict) else dict(enumerate(own, 1))).items()}}
        for name, own in dices.items()
    ]  # fmt: skip
    (folder / f"fold_{fold}" / "validation").mkdir()
    summary = folder / f"fold_{fold}" / "validation" / "summary.json"
    summary.write_text(json.dumps({"metric_per_case": cases}))


@pytest.mark.parametrize(("error", "verdict"), [(0.0, "agrees"), (0.01, "does NOT agree")])
def test_an_attack_compares_its_clean_scores_with_the_validation(
    error: float, verdict: str, tmp_path: Path, volumes: Path
) -> None:
    """For nothing: they are scored anyway."""
    folder = results(tmp_path, folds="0")
    output, rows = attacked(folder, volumes, "--eps", "0", limit=2)
    assert "came with it" not in output
    dices = {
        name: [dice + error for dice in own.sort_values("class_id")["dice"]]
        for name, own in rows.groupby("case_id")
    }
    summarise(folder, "0", {**dices, "elsewhere": [0.5, 0.5]})
    output, _ = attacked(folder, volumes, "--eps", "0", limit=2)
    assert f"its clean Jaccard {verdict}" in output
    assert "on 2 of its 3 cases" in output


def test_each_fold_is_compared_on_its_own_cases(tmp_path: Path, volumes: Path) -> None:
    """nnU-Net predicted them by the one fold that had not seen them, not by the mean of all."""
    folder, dataset = results(tmp_path), data(volumes)
    for fold, name in (("0", "c0"), ("1", "c1")):
        alone = loaded(f"nnunet:{folder},folds={fold}", dataset).module
        summarise(folder, fold, {name: _dice(alone, dataset.load(name), ((1,), (2,)))})
    model = loaded(f"nnunet:{folder}", dataset)
    compared = list(model.oracle())
    assert [one.text.partition(":")[0] for one in compared] == ["fold 0 c0", "fold 1 c1"]
    assert max(one.apart for one in compared) < 1e-4
    assert not model.measured


@pytest.mark.parametrize(
    ("folds", "there", "learnt", "words"),
    [
        ("0", "01", {"c1"}, "1 of the data's 4 cases are of its training"),
        ("0+1", "01", {"c0", "c1"}, "2 of the data's 4 cases are of its training"),
        ("0", "0", set(), "3 of the data's 4 cases are not among those"),
        ("0", "", set(), ""),
    ],
)
def test_cases_of_its_training_are_told_of_as_far_as_its_folds_list_them(
    folds: str, there: str, learnt: set[str], words: str, tmp_path: Path, volumes: Path
) -> None:
    """Each fold validates on a case of its own, so that the others have seen it."""
    folder = results(tmp_path)
    for fold in there:
        summarise(folder, fold, {f"c{fold}": [0.5, 0.5]})
    model = loaded(f"nnunet:{folder},folds={folds}", data(volumes))
    assert model.learnt == learnt
    told = [said for said in model.said if "of the data's" in said]
    assert (words in " ".join(told)) if words else not told
    dataset = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**dataset, "numTraining": len(there)}))
    model = loaded(f"nnunet:{folder},folds={folds}", data(volumes))
    assert not any("may be trained" in said for said in model.said) or not there


def test_the_splits_beside_the_folds_tell_all_where_they_are_the_folds_own(
    tmp_path: Path, volumes: Path
) -> None:
    folder = results(tmp_path, folds="0")
    summarise(folder, "0", {"c0": [0.5, 0.5]})
    splits = [{"train": ["c1", "c2"], "val": ["c0"]}]
    (folder.parent / "splits_final.json").write_text(json.dumps(splits))
    output, _ = attacked(folder, volumes, "--eps", "0", limit=2)
    assert "2 of the data's 4 cases are of its training" in output
    (run,) = read_runs(Workspace(folder.parent / "runs"))
    cases = {case.case_id: case.trained for case in run.asked[0].cases}
    assert cases == {name: name in ("c1", "c2") for name in cases}
    assert cases
    splits[0]["val"] = ["c3"]
    (folder.parent / "splits_final.json").write_text(json.dumps(splits))
    assert not loaded(f"nnunet:{folder}", data(volumes)).learnt


@pytest.mark.parametrize(("stated", "apart"), [(nan, 0.0), (0.5, 1.0)])
def test_a_class_that_is_nowhere_hides_no_other(
    stated: float, apart: float, tmp_path: Path, volumes: Path
) -> None:
    """Its Dice is no number; that of the other class still counts."""
    folder, dataset = results(tmp_path, folds="0"), data(volumes)
    whole = dataset.load("c0")
    none = replace(whole, labels=np.where(whole.labels == 1, 0, whole.labels))
    some = type("Some", (), {
        "splits": ("test",), "load": lambda self, _: none,
        "entries": lambda self, _: [Entry("c0", "c0", whole.image.shape)],
    })()  # fmt: skip
    plans, module = read_plans(folder, None, None), loaded(f"nnunet:{folder}", dataset).module
    module.folds[0].decoder.seg_layers[-1].bias.data[1] = -1e4  # never predicted
    summarise(folder, "0", {"c0": [stated, _dice(module, none, ((2,),))[0]]})
    (compared,) = agreement(plans, module, some)
    assert compared.apart == pytest.approx(apart, abs=1e-4)


def test_regions_are_compared_as_nnunet_scores_them(tmp_path: Path, volumes: Path) -> None:
    """By the keys of its summaries, on the labels that it paints."""
    labels = {"background": 0, "whole": [1, 2], "back": 2}
    folder, dataset = results(tmp_path, labels=labels, folds="0"), data(volumes)
    module, case = loaded(f"nnunet:{folder}", dataset).module, dataset.load("c0")
    module.eval().meet(case)
    painted = module(torch.from_numpy(case.image)[None])[0].argmax(0).numpy()
    dices = {}
    for key, values in (("(1, 2)", [1, 2]), ("2", [2])):
        ours, truth = np.isin(painted, values), np.isin(case.labels, values)
        dices[key] = 2 * (ours & truth).sum() / (ours.sum() + truth.sum())
    assert len(set(dices.values())) == 2
    summarise(folder, "0", {"c0": dices})
    model = loaded(f"nnunet:{folder}", dataset)
    (compared,) = model.oracle()
    assert compared.apart < 1e-4
    assert not model.measured  # which is of Jaccard by class


def test_what_inspect_has_compared_is_said_by_attack_and_its_record(
    tmp_path: Path, volumes: Path
) -> None:
    folder = results(tmp_path, folds="0")
    alone = loaded(f"nnunet:{folder}", data(volumes)).module
    dices = {f"c{n}": _dice(alone, data(volumes).load(f"c{n}"), ((1,), (2,))) for n in range(3)}
    summarise(folder, "0", {**dices, "c2": [0.5, 0.5], "elsewhere": [0.5, 0.5]})
    before, _ = attacked(folder, volumes, "--eps", "0", limit=1)
    assert "its clean Dice was not yet compared with what came with it" in before
    shown = CliRunner().invoke(main, [
        "inspect", f"nnunet:{folder}", "--dataset", SPEC, "--data-root", str(volumes),
        "--workspace", str(folder.parent / "runs"),
    ])  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "fold 0 c0: Dice" in shown.output
    verdict = "its clean Dice does NOT agree with what came with it, on 3 cases: at most"
    assert verdict in shown.output
    after, _ = attacked(folder, volumes, "--eps", "0", limit=1)
    assert verdict in after
    record = read_runs(Workspace(folder.parent / "runs"))[-1]
    assert any(verdict in sentence for sentence in record.asked[0].said)


def test_regions_become_the_labels_that_nnunet_paints() -> None:
    regions = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    order = (2, 1, 3)
    painted = torch.zeros(500).long()
    for label, logit in zip(order, regions, strict=True):
        painted[logit > 0] = label
    logits = class_logits(regions, order)
    assert torch.equal(logits.argmax(0), painted)
    margins = logits.topk(2, 0).values
    assert (margins[0] > 0).all()  # one condition holds, every other label lacks one
    assert (margins[1] < 0).all()


def test_a_network_of_regions_has_the_datas_classes(tmp_path: Path, volumes: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "back": [2]}
    model = loaded(f"nnunet:{results(tmp_path, labels=labels)}", data(volumes))
    model.module.eval().meet(data(volumes).load("c0"))
    assert model.module(torch.rand(1, 1, 9, 8, 10)).shape[1] == 3


def test_regions_that_overlap_in_the_data_too_are_left_as_they_are(
    tmp_path: Path, volumes: Path
) -> None:
    labels = {"background": 0, "whole": [1, 2], "back": [2]}
    folder = results(tmp_path, labels=labels)
    dataset = data(volumes, f'{SPEC},regions="whole={{1,2}}; back={{2}}"')
    model, case = loaded(f"nnunet:{folder},folds=0", dataset), dataset.load("c0")
    painted = loaded(f"nnunet:{folder},folds=0", data(volumes))
    images = torch.from_numpy(case.image)[None]
    for one in (model, painted):
        one.module.eval().meet(case)
    regions = model.module(images)[0]
    assert (regions.shape[0], model.module.output) == (2, "sigmoid")
    assert_close(painted.module(images)[0], class_logits(regions, (1, 2)))


def test_ct_is_clipped_and_scaled_in_the_files_units(tmp_path: Path, volumes: Path) -> None:
    folder = results(tmp_path, normalization_schemes=["CTNormalization"])
    dataset = data(volumes)
    model = loaded(f"nnunet:{folder},folds=0", dataset)
    assert any("clips to -20 to 140" in sentence for sentence in model.said)
    case = dataset.load("c0")
    intensity = case.intensity[0]
    raw = intensity.low + torch.from_numpy(case.image) * (intensity.high - intensity.low)
    found = model.module._normalised(0, raw[0], raw[0] > -1e9)
    assert_close(found, (raw[0].clamp(-20, 140) - 50) / 20)


@pytest.mark.parametrize(
    ("old", "new", "order"), [((9, 8), (12, 5), 3), ((5, 7, 6), (9, 7, 4), 3), ((4, 6), (9, 3), 1)]
)
def test_resizing_is_scipys_spline_zoom(
    old: tuple[int, ...], new: tuple[int, ...], order: int
) -> None:
    """What scikit-image's resize calls, then clips."""
    image = np.random.default_rng(0).normal(size=old)
    zoom = [a / b for a, b in zip(new, old, strict=True)]
    expected = ndimage.zoom(image, zoom, order=order, mode="nearest", grid_mode=True)
    found = resize(torch.from_numpy(image)[None].float(), new, order)[0]
    assert_close(found.double(), torch.from_numpy(expected.clip(image.min(), image.max())),
                 atol=1e-5, rtol=1e-4)  # fmt: skip


def test_a_coarse_axis_is_resampled_to_the_nearest() -> None:
    volume = torch.rand(1, 3, 4, 4)
    found = resample(volume, (6, 8, 8), (5.0, 1, 1), (2.5, 0.5, 0.5), 3)
    for z in range(6):
        assert_close(found[:, z], resize(volume[:, z // 2], (8, 8), 3))


def test_tiles_cover_an_image_and_a_constant_stays_one() -> None:
    assert nnunet_starts((20, 8), (8, 8)) == [[0, 4, 8, 12], [0]]
    image = torch.rand(1, 1, 20, 8)
    starts = nnunet_starts((20, 8), (8, 8))
    assert_close(slide(image, (8, 8), starts, nnunet_gaussian((8, 8)), lambda x: 3 * x), 3 * image)


def _plans(folder: Path, change: Any) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    change(plans["configurations"]["3d_fullres"])
    (folder / "plans.json").write_text(json.dumps(plans))


def test_nothing_that_the_plans_name_is_imported(tmp_path: Path, volumes: Path) -> None:
    def evil(key: str, value: str) -> Any:
        return lambda c: c["architecture"]["arch_kwargs"].update({key: value})

    cases = [
        (evil("conv_op", "os.system"), "names the layer os.system; expected one of torch.nn"),
        (evil("nonlin", "torch.nn.functional.relu"), "names the layer torch.nn.functional.relu"),
        (lambda c: c["architecture"].update(network_class_name="os.path.Evil"), "the network os"),
        (lambda c: c.update(normalization_schemes=["Mine"]), "normalises by Mine"),
        (lambda c: c.update(resampling_fn_data="mine"), "resampling_fn_data = 'mine'"),
        (lambda c: c["resampling_fn_data_kwargs"].update(separate_z_anisotropy_threshold=9),
         "separate_z_anisotropy_threshold = 9, which is not done"),
        (lambda c: c["resampling_fn_probabilities_kwargs"].update(is_seg=True), "is_seg = True"),
        (lambda c: c.pop("patch_size"), "its plans lack 'patch_size'|patch_size"),
    ]  # fmt: skip
    for number, (change, words) in enumerate(cases):
        folder = results(tmp_path / str(number), folds="0")
        _plans(folder, change)
        with pytest.raises((UserError, KeyError), match=words):
            loaded(f"nnunet:{folder}", data(volumes))


def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, volumes: Path
) -> None:
    folder, dataset = results(tmp_path, folds="0"), data(volumes)
    cases = [
        (f"nnunet:{folder},folds=3", "no fold 3 with a checkpoint .there: 0"),
        (f"nnunet:{folder.parent},configuration=2d", "no trained network of configuration '2d'"),
        (f"nnunet:{folder},fold=0", "no option 'fold=0'; did you mean 'folds'"),
        (f"nnunet:{tmp_path}/absent", "does not exist"),
    ]
    for text, words in cases:
        with pytest.raises(UserError, match=words):
            loaded(text, dataset)
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"garbage")
    with pytest.raises(UserError, match="not a file of torch"):
        loaded(f"nnunet:{folder}", dataset)
    cascade = folder.rename(folder.with_name("nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"))
    with pytest.raises(UserError, match="second stage of a cascade"):
        loaded(f"nnunet:{cascade}", dataset)
    slices = open_dataset("folder", volumes)
    with pytest.raises(UserError, match="network for volumes; the data are images"):
        loaded(f"nnunet:{results(tmp_path, folds='0')}", slices)


def test_a_spec_of_the_registered_model_is_no_import() -> None:
    assert read_import("nnunet:width=8") is None
    assert read_import("nnunet") is None


@pytest.mark.skipif(
    not REFERENCE.is_dir() or not (DATA / "msd_hippocampus").is_dir(),
    reason=f"no results folder of nnU-Net beside the repository ({REFERENCE})",
)
def test_a_folder_of_nnunets_own_agrees_with_its_own_validation() -> None:
    dataset = data(DATA / "msd_hippocampus")
    (folder,) = REFERENCE.glob("*")
    model = loaded(f"nnunet:{folder}", dataset)
    assert isinstance(model.module, NnunetNetwork)
    plans = read_plans(folder, None, None)
    some = type("Some", (), {
        "splits": ("test",), "load": dataset.load,
        "entries": lambda self, _: [e for s in dataset.splits for e in dataset.entries(s)
                                    if e.case_id == "hippocampus_318"],
    })()  # fmt: skip
    (compared,) = agreement(plans, model.module, some)
    said = "fold 0 hippocampus_318: Dice 0.6770 (0.6770), 0.7403 (0.7403)"
    assert compared.text.startswith(said)
    assert compared.apart <= AGREES
