"""MONAI bundles: rebuilt from configs that are not run, they predict what MONAI predicts."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import monai.transforms
import nibabel
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from monai.bundle import ConfigParser
from torch.testing import assert_close

from segbench.cli import main
from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.networks.bundle_network import INTENSITY, _quantile
from segbench.networks.imported import read_import
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

SPEC = "folder:mode=volumes,lower=0,upper=100"
UNET = {
    "_target_": "UNet", "spatial_dims": "@dims", "in_channels": 1, "out_channels": 3,
    "channels": [4, 8], "strides": [2],
}  # fmt: skip
NETWORKS = {
    "UNet": UNET,
    "SegResNet": {
        "_target_": "monai.networks.nets.SegResNet", "spatial_dims": 3, "in_channels": 1,
        "out_channels": 3, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1],
    },
    "SwinUNETR": {
        "_target_": "SwinUNETR", "in_channels": 1, "out_channels": 3, "feature_size": 12,
        "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1],
    },
}  # fmt: skip
ROI = {"SwinUNETR": (64, 32, 32)}  # at which no level has a single voxel
CT = {
    "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57, "a_max": 164,
    "b_min": 0, "b_max": 1, "clip": True,
}  # fmt: skip
ZSCORE = {
    "_target_": "NormalizeIntensityd",
    "keys": ["image"],
    "nonzero": True,
    "channel_wise": True,
}
SOFTMAX = [
    {"_target_": "Activationsd", "keys": "pred", "softmax": True},
    {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"},
    {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
]
SIGMOID = [
    {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.4},
]


def bundle(
    root: Path,
    network: dict[str, Any] = UNET,
    scale: dict[str, Any] = ZSCORE,
    post: Any = SOFTMAX,
    roi: Any = (16, 16, 16),
    more: Any = (),
    weights: bool = True,
    **changes: Any,
) -> Path:
    """A bundle whose weights are at random."""
    folder = root / "spleen"
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    channels = {"0": "background", "1": "front", "2": "back"}
    metadata = {
        "name": "Spleen", "version": "0.5.4",
        "network_data_format": {
            "inputs": {"image": {"num_channels": 1}},
            "outputs": {"pred": {"channel_def": channels}},
        },
    }  # fmt: skip
    config = {
        "imports": ["$import glob", "$import os; os.system('touch evil')"],
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "dims": 3,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            *more, scale,
            {"_target_": "EnsureTyped", "keys": "image"},
        ]},
        "inferer": {
            "_target_": "SlidingWindowInferer", "roi_size": "@roi", "sw_batch_size": 2,
            "overlap": 0.5, "mode": "gaussian",
        },
        "roi": list(roi),
        "postprocessing": {"_target_": "Compose", "transforms": post},
        **changes,
    }  # fmt: skip
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    if weights:
        state = theirs(folder).get_parsed_content("network_def").state_dict()
        torch.save(state, folder / "models" / "model.pt")
    return folder


def theirs(folder: Path) -> ConfigParser:
    parser = ConfigParser(globals=False)
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.config.pop("imports", None)  # type: ignore[union-attr]
    return parser


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Two volumes of 20 x 18 x 17 voxels in the units of CT, their first axis to the left."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for n in range(2):
        labels = rng.integers(0, 3, (20, 18, 17)).astype(np.uint8)
        image = (labels * 60 - 40 + rng.normal(0, 40, labels.shape)).astype(np.float32)
        image[:3] = 0
        for name, array in (("images", image), ("masks", labels)):
            (root / name).mkdir(parents=True, exist_ok=True)
            turned = nibabel.Nifti1Image(array, np.diag([-1.0, 1, 1, 1]))
            turned.to_filename(root / name / f"c{n}.nii.gz")
    return root


def loaded(text: str, dataset: Any) -> Any:
    reference = read_import(text)
    assert reference is not None
    return reference.load(dataset)


@pytest.mark.filterwarnings(
    "ignore:monai.transforms.spatial:FutureWarning", "ignore:NvImgCodecPydicomReader"
)
@pytest.mark.parametrize(
    ("network", "post", "scale"),
    [
        ("UNet", SOFTMAX, CT), ("UNet", SIGMOID, ZSCORE), ("SegResNet", SOFTMAX, ZSCORE),
        ("SegResNet", SIGMOID, CT), ("SwinUNETR", SOFTMAX, ZSCORE),
    ],
    ids=["UNet, CT", "UNet, sigmoids", "SegResNet, z-score", "SegResNet, sigmoids", "SwinUNETR"],
)  # fmt: skip
def test_a_bundle_predicts_what_monai_predicts(
    network: str, post: Any, scale: Any, tmp_path: Path, volumes: Path
) -> None:
    folder = bundle(tmp_path, NETWORKS[network], scale, post, ROI.get(network, (16, 16, 16)))
    dataset = open_dataset(SPEC, volumes)
    model, case = loaded(f"monai-bundle:{folder}", dataset), dataset.load("c0")
    model.module.eval().meet(case)
    with torch.no_grad():
        logits = model.module(torch.from_numpy(case.image)[None])[0]
    parser = theirs(folder)
    net = parser.get_parsed_content("network_def").eval()
    net.load_state_dict(torch.load(folder / "models" / "model.pt"))
    prepared = parser.get_parsed_content("preprocessing")(
        {"image": str(volumes / "images" / "c0.nii.gz")}
    )
    with torch.no_grad():
        expected = parser.get_parsed_content("inferer")(prepared["image"][None], net)[0].as_tensor()
    shift = np.log(0.4 / 0.6) if post is SIGMOID else 0.0
    assert_close(logits + shift, expected, atol=2e-4, rtol=1e-3)
    mine = (logits > 0) if post is SIGMOID else logits.argmax(0)
    whole = (expected.sigmoid() >= 0.4) if post is SIGMOID else expected.argmax(0)
    assert (mine == whole).float().mean() > 0.9999
    assert getattr(model.module, "output", None) == ("sigmoid" if post is SIGMOID else None)


@pytest.mark.filterwarnings(
    "ignore:monai.transforms.spatial:FutureWarning", "ignore:NvImgCodecPydicomReader"
)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("post", [SOFTMAX, SIGMOID], ids=["labels", "regions"])
def test_a_bundle_predicts_what_monais_own_evaluator_predicts(
    network: str, post: Any, tmp_path: Path, volumes: Path
) -> None:
    """From the file to the prediction after the bundle's own postprocessing, case by case."""
    pytest.importorskip("ignite")
    from monai.data import DataLoader, Dataset
    from monai.engines import SupervisedEvaluator

    folder = bundle(tmp_path, NETWORKS[network], ZSCORE, post, ROI.get(network, (16, 16, 16)))
    dataset, parser = open_dataset(SPEC, volumes), theirs(folder)
    model = loaded(f"monai-bundle:{folder}", dataset)
    net = parser.get_parsed_content("network_def")
    net.load_state_dict(torch.load(folder / "models" / "model.pt"))
    for name in ("c0", "c1"):
        file = {"image": str(volumes / "images" / f"{name}.nii.gz")}
        prepared = Dataset([file], parser.get_parsed_content("preprocessing"))
        evaluator = SupervisedEvaluator(
            torch.device("cpu"), DataLoader(prepared), net,
            inferer=parser.get_parsed_content("inferer"),
            postprocessing=parser.get_parsed_content("postprocessing"),
        )  # fmt: skip
        evaluator.run()
        expected = evaluator.state.output[0]["pred"].as_tensor()
        case = dataset.load(name)
        model.module.eval().meet(case)
        with torch.no_grad():
            logits = model.module(torch.from_numpy(case.image)[None])[0]
        labels = logits.argmax(0)[None].flip(1)  # inverted: along the file's axes
        found = logits > 0 if post is SIGMOID else labels
        assert len(found.unique()) > 1
        assert (found == expected).float().mean() > 0.9999


@pytest.mark.parametrize("least", [0, -30], ids=["skull-stripped", "with undershoot"])
def test_a_mostly_empty_volume_has_the_zeros_of_its_file(
    least: int, tmp_path: Path, volumes: Path
) -> None:
    """What ``nonzero`` leaves out, to MONAI's own numbers."""
    from monai.transforms import NormalizeIntensity

    rng = np.random.default_rng(0)
    voxels = np.zeros((20, 18, 17), np.int16)
    voxels[5:15, 5:14, 5:13] = rng.integers(200, 900, (10, 9, 8))
    voxels[5, 5, 5] = least
    file = volumes / "images" / "c0.nii.gz"
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(file)
    mask = nibabel.load(volumes / "masks" / "c0.nii.gz").get_fdata().astype(np.uint8)  # type: ignore[attr-defined]
    nibabel.Nifti1Image(mask, np.eye(4)).to_filename(volumes / "masks" / "c0.nii.gz")
    dataset = open_dataset(SPEC, volumes)
    model, case = loaded(f"monai-bundle:{bundle(tmp_path)}", dataset), dataset.load("c0")
    assert not any("clipped" in sentence for sentence in model.said)
    model.module.meet(case)
    found = model.module._scaled(model.module._met.in_units(torch.from_numpy(case.image)))
    scale = NormalizeIntensity(nonzero=True, channel_wise=True)
    assert_close(found[0], torch.as_tensor(scale(voxels[None].astype(np.float32)))[0],
                 atol=1e-4, rtol=1e-4)  # fmt: skip


SCALES = {
    "ScaleIntensityRange": {"a_min": -1.0, "a_max": 2.0, "b_min": -1.0, "b_max": 1.0, "clip": True},
    "ScaleIntensityRangePercentiles": {
        "lower": 1, "upper": 99.5, "b_min": 0.0, "b_max": 1.0, "clip": True
    },
    "ScaleIntensity": {"minv": -1.0, "maxv": 1.0},
    "NormalizeIntensity": {"nonzero": True},
}  # fmt: skip
VOLUMES = {
    "some": torch.randn(2, 9, 8, 7, generator=torch.Generator().manual_seed(0)),
    "with zeros": torch.randn(2, 9, 8, 7, generator=torch.Generator().manual_seed(1)).clamp_min(0),
    "of one value": torch.full((2, 9, 8, 7), 3.0),
    "of zeros": torch.zeros(2, 9, 8, 7),
}


@pytest.mark.filterwarnings("ignore:Divide by zero")
@pytest.mark.parametrize("volume", VOLUMES)
@pytest.mark.parametrize("name", INTENSITY)
def test_intensities_are_scaled_as_monai_scales_them(name: str, volume: str) -> None:
    image = VOLUMES[volume]
    for channel_wise in ({}, {"channel_wise": True} if name != "ScaleIntensityRange" else {}):
        how = SCALES[name] | channel_wise
        expected = getattr(monai.transforms, name)(**how)(image.clone())
        assert_close(INTENSITY[name](image, **how), torch.as_tensor(expected), atol=1e-5, rtol=1e-4)


def test_percentiles_of_a_large_volume_are_monais() -> None:
    """torch's own end at 16 million voxels."""
    image = torch.randn(1, 257, 257, 257, generator=torch.Generator().manual_seed(0))
    how = SCALES["ScaleIntensityRangePercentiles"]
    expected = monai.transforms.ScaleIntensityRangePercentiles(**how)(image)  # type: ignore[arg-type]
    found = INTENSITY["ScaleIntensityRangePercentiles"](image, **how)
    assert_close(found, torch.as_tensor(expected), atol=1e-5, rtol=1e-4)


def test_percentiles_of_a_large_volume_have_a_gradient() -> None:
    """That of the two voxels that it lies between."""
    values = torch.randperm(1_100_001, generator=torch.Generator().manual_seed(0)).float()
    values.requires_grad_()
    found = _quantile(values, 0.25001)
    assert float(found.detach()) == pytest.approx(275_011)
    (gradient,) = torch.autograd.grad(found, values)
    assert set(values[gradient != 0].tolist()) <= {275_010.0, 275_011.0, 275_012.0}
    assert float(gradient.sum()) == pytest.approx(1)


def test_its_gradient_is_that_of_its_answer(tmp_path: Path, volumes: Path) -> None:
    """Through window, z-score and checkpoints, by finite differences in double.

    Away from the zeros of the file: what ``nonzero`` leaves out jumps there.
    """
    dataset = open_dataset(SPEC, volumes)
    module = loaded(f"monai-bundle:{bundle(tmp_path)}", dataset).module.double().eval()
    case = dataset.load("c0")
    module.meet(case)
    image = (0.9 * torch.from_numpy(case.image)[None].double() + 0.05).requires_grad_()
    weights = torch.linspace(-1, 1, 3).double().reshape(1, 3, 1, 1, 1)
    (gradient,) = torch.autograd.grad((module(image) * weights).sum(), image)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        ends = [(module(image + s * 1e-6 * direction) * weights).sum() for s in (1, -1)]
    found = float((gradient * direction).sum())
    assert found == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-3)


def test_a_bundle_is_inspected_and_attacked(tmp_path: Path, volumes: Path) -> None:
    zipped = tmp_path / "spleen.zip"
    folder = bundle(tmp_path, scale=CT)
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as records:
        for file in sorted(folder.rglob("*.*")):
            records.write(file, f"spleen/{file.relative_to(folder)}")
    data = ["--dataset", SPEC, "--data-root", str(volumes), "--workspace", str(tmp_path / "runs")]
    shown = CliRunner().invoke(main, ["inspect", f"monai-bundle:{zipped}", *data])
    assert shown.exit_code == 0, shown.output
    for words in (
        "Spleen 0.5.4", "[16, 16, 16], overlap 0.5, gaussian", "background, front, back",
        "looks through the window -57 to 164", f"attack -m monai-bundle:{zipped}",
    ):  # fmt: skip
        assert words in shown.output
    done = CliRunner().invoke(main, [
        "attack", "-m", f"monai-bundle:{zipped}", "-a", "pgd:steps=4", "--eps", "0.1",
        "--limit", "1", *data,
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = read_rows(Workspace(tmp_path / "runs"))
    means = rows.groupby("attack")["dice"].mean()
    assert means["pgd:steps=4"] < means["clean"]


@pytest.mark.parametrize("network", NETWORKS)
def test_each_kind_of_network_is_attacked(network: str, tmp_path: Path, volumes: Path) -> None:
    folder = bundle(tmp_path, NETWORKS[network], roi=ROI.get(network, (16, 16, 16)))
    done = CliRunner().invoke(main, [
        "attack", "-m", f"monai-bundle:{folder}", "-a", "pgd:steps=3", "--eps", "0.1",
        "--limit", "1", "--dataset", SPEC, "--data-root", str(volumes),
        "--workspace", str(tmp_path / "runs"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    means = read_rows(Workspace(tmp_path / "runs")).groupby("attack")["dice"].mean()
    assert means["pgd:steps=3"] < means["clean"]


EVIL = "$__import__('os').system('touch evil')"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {**UNET, "in_channels": EVIL}}, r"network_def::in_channels = .* is not run"),
        ({"network": {**UNET, "_target_": "os.system"}}, "network_def is os.system; expected"),
        ({"network": {**UNET, "_target_": "monai.bundle.run"}}, "expected a class of monai"),
        ({"network": {**UNET, "norm": {"_target_": "os.system"}}}, "parts of its own to build"),
        ({"network": "$@network_def"}, "no part of MONAI's"),
        ({"network": "@a", "a": "@b", "b": "@nowhere"}, "refers to 'nowhere'"),
        ({"roi": EVIL}, r"is Python, and is not run"),
        ({"roi": (96, 96)}, r"roi_size is \[96, 96\], but the data have 3 dimensions"),
        ({"dims": "@dims"}, "refers to itself"),
        ({"more": [{"_target_": "Lambdad", "keys": "image", "func": EVIL}]}, "is Python"),
        ({"more": [{"_target_": "Resized", "keys": "image", "spatial_size": [8]}]}, "is Resizedd*"),
        ({"more": [{"_target_": "Spacingd", "keys": "image", "pixdim": [2, 1, 1]}]}, "resample"),
        ({"post": [{"_target_": "FillHolesd", "keys": "pred"}]}, "FillHolesd, which changes"),
        ({"inferer": {"_target_": "SliceInferer"}}, "inferer is SliceInferer"),
    ],
)
def test_nothing_is_run_and_what_cannot_be_honoured_is_named(
    changes: dict[str, Any], words: str, tmp_path: Path, volumes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").mkdir()
    good = bundle(tmp_path / "good")
    network = changes.pop("network", UNET)
    known = network if isinstance(network, dict) else UNET
    folder = bundle(tmp_path, known, weights=False, **changes)
    if isinstance(network, str):
        text = json.loads((folder / "configs" / "inference.json").read_text())
        text["network_def"] = network
        (folder / "configs" / "inference.json").write_text(json.dumps(text))
    (folder / "models" / "model.pt").write_bytes((good / "models" / "model.pt").read_bytes())
    dataset = open_dataset(SPEC, volumes)
    with pytest.raises(UserError, match=words):
        loaded(f"monai-bundle:{folder}", dataset).module.meet(dataset.load("c0"))
    assert not (tmp_path / "evil").exists()


def test_skip_leaves_a_transform_out_and_says_so(tmp_path: Path, volumes: Path) -> None:
    folder = bundle(tmp_path, post=[*SOFTMAX, {"_target_": "FillHolesd", "keys": "pred"}])
    model = loaded(f"monai-bundle:{folder},skip=FillHolesd", open_dataset(SPEC, volumes))
    assert "FillHolesd left out, as asked for" in model.said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.json", "[" * 100_000), ("metadata.json", "not json"), ("inference.json", "[1]"),
    ],
    ids=["deep", "broken", "a list"],
)  # fmt: skip
def test_a_hostile_file_is_one_sentence(
    name: str, content: str, tmp_path: Path, volumes: Path
) -> None:
    folder = bundle(tmp_path)
    (folder / "configs" / name).write_text(content)
    with pytest.raises(UserError, match=name) as caught:
        loaded(f"monai-bundle:{folder}", open_dataset(SPEC, volumes))
    assert "\n" not in str(caught.value)


def test_a_packed_bomb_is_not_unpacked(tmp_path: Path, volumes: Path) -> None:
    folder, bomb = bundle(tmp_path), tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as records:
        for name in ("metadata.json", "inference.json"):
            records.write(folder / "configs" / name, f"configs/{name}")
        records.writestr("models/model.pt", bytes(80 << 20))
    with pytest.raises(UserError, match="packed beyond reason"):
        loaded(f"monai-bundle:{bomb}", open_dataset(SPEC, volumes))


def test_a_yaml_bundle_is_read_safely(tmp_path: Path, volumes: Path) -> None:
    yaml = pytest.importorskip("yaml")
    folder = bundle(tmp_path)
    config = json.loads((folder / "configs" / "inference.json").read_text())
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(config))
    dataset = open_dataset(SPEC, volumes)
    assert loaded(f"monai-bundle:{folder}", dataset).shown["tiles"].startswith("[16, 16, 16]")
    evil = "network_def: !!python/object/apply:os.system ['touch evil']\n"
    (folder / "configs" / "inference.yaml").write_text(evil)
    with pytest.raises(UserError, match=r"inference\.yaml cannot be read"):
        loaded(f"monai-bundle:{folder}", dataset)
    assert not os.path.exists("evil")
