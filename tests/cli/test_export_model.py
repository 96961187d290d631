"""segbench export-model: what leaves segbench is what was in it, and others load it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from segbench.api import Dataset
from segbench.data import open_dataset
from segbench.networks import CheckpointReference, resolve_models
from segbench.networks.imported import read_import
from segbench.networks.trained import checkpoint_at
from segbench.store.workspace import Workspace

DATA = "phantom-cxr:size=32,train_cases=6,test_cases=2"
MONAI = "monai/UNet:channels=4+8,strides=2,stride=2"


@pytest.fixture(scope="module")
def monai_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from click.testing import CliRunner

    from segbench.cli import main

    workspace = tmp_path_factory.mktemp("monai")
    arguments = ["train", MONAI, "--dataset", DATA, "--epochs", "1", "--workspace", str(workspace)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return workspace


def test_a_trained_network_leaves_as_a_checkpoint_with_a_card(
    segbench: Any, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = segbench("export-model", "unet:width=4,depth=2", "--out", out, "--workspace", trained)
    assert done.exit_code == 0, done.output
    (original,) = resolve_models(["unet:width=4,depth=2"], Workspace(trained))
    assert isinstance(original, CheckpointReference)
    data = open_dataset(original.card.dataset_spec, None)
    found, model = checkpoint_at(out).load(data), original.load(data)
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(found.module.state_dict()[name], tensor)
    card = json.loads((out / "model_card.json").read_text())
    assert card["weights_sha256"] == model.weights_sha256
    assert card["training"]["dataset_spec"] == original.card.dataset_spec
    assert card["class_names"] == list(data.class_names)
    assert card["licence"] == "not said"


def test_a_network_of_ones_own_leaves_as_safetensors(segbench: Any, tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text("from torch import nn\ndef build():\n    return nn.Conv2d(1, 2, 1).half()\n")
    out = tmp_path / "out"
    done = segbench("export-model", f"{net}:build", "--normalize", "zscore", "--dataset", DATA,
                    "--out", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert set(load_file(out / "model.safetensors")) == {"weight", "bias"}
    card = json.loads((out / "model_card.json").read_text())
    assert card["image"]["normalization"]["per_image"] is True
    assert card["source"] == f"{net}:build"
    assert not (out / "card.json").exists()


def test_a_bundle_is_what_monai_and_segbench_load(
    segbench: Any, monai_trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    done = segbench("export-model", MONAI, "--format", "monai-bundle", "--out", out,
                    "--workspace", monai_trained)  # fmt: skip
    assert done.exit_code == 0, done.output
    (reference,) = resolve_models([MONAI], Workspace(monai_trained))
    data = open_dataset(DATA, None)
    original = reference.load(data).module.eval()
    imported = read_import(f"monai-bundle:{out}")
    assert imported is not None
    bundle, case = imported.load(data).module.eval(), data.load(data.entries("test")[0].case_id)
    bundle.meet(case)  # type: ignore[operator]
    images = torch.from_numpy(case.image)[None, :, :31, :29]
    with torch.no_grad():
        assert_close(bundle(images), original(images), atol=1e-5, rtol=1e-4)
    parser = ConfigParser()
    parser.read_config(str(out / "configs" / "inference.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's, of its own defaults
        theirs = parser.get_parsed_content("network_def").eval()
    theirs.load_state_dict(torch.load(out / "models" / "model.pt"))
    scaled = original.normalize(images[..., :30, :28])  # type: ignore[operator]
    with torch.no_grad():
        assert_close(theirs(scaled), original(images[..., :30, :28]), atol=1e-5, rtol=1e-4)


def write_cases(root: Path, kind: str) -> None:
    """Three cases that are scaled by a hundred from one to the next, beside their masks."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for n in range(3):
        if kind == "pictures":
            mask = np.zeros((21, 18), np.uint8)
            mask[4 + n : 12, 6:14] = 255
            image = random.integers(0, 100, mask.shape).astype(np.uint8) + mask // 2
            for folder, pixels in (("images", image), ("masks", mask)):
                Image.fromarray(pixels).save(root / folder / f"c{n}.png")
            continue
        mask = np.zeros((14, 12, 8), np.uint8)
        mask[3 + n : 9, 4:10, 2:6] = 1
        image = random.normal(100, 20, mask.shape) * (1 + 0.7 * mask) * 100.0**n
        if kind == "half empty":
            image[7:] = image[:, :, 6:] = 0
        turned = np.diag([-1.0, 1.0, 2.0, 1.0])
        for folder, voxels in (("images", image.astype(np.float32)), ("masks", mask)):
            nibabel.save(nibabel.Nifti1Image(voxels, turned), root / folder / f"c{n}.nii.gz")


@pytest.fixture
def bundled(segbench: Any, tmp_path: Path) -> Callable[..., tuple[Any, Dataset, Path]]:
    """Trains on files of that kind, with options of ``folder``, and exports a bundle."""

    def make(kind: str, options: str) -> tuple[Any, Dataset, Path]:
        root, runs, out = tmp_path / "data", tmp_path / "runs", tmp_path / "bundle"
        write_cases(root, kind)
        spec = f"folder:test_fraction=0.34{options}"
        done = segbench("train", MONAI, "--dataset", spec, "--data-root", root, "--epochs", "1",
                        "--workspace", runs)  # fmt: skip
        assert done.exit_code == 0, done.output
        done = segbench("export-model", MONAI, "--format", "monai-bundle", "--out", out,
                        "--data-root", root, "--workspace", runs)  # fmt: skip
        return done, open_dataset(spec, root), runs

    return make


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("pictures", ""),
        ("volumes", ",mode=volumes,window=0..20000"),
        ("volumes", ",mode=volumes"),
        ("half empty", ",mode=volumes,lower=0,upper=100"),
    ],
)
def test_of_a_raw_file_a_bundle_makes_what_the_network_was_shown_and_answers_alike(
    kind: str, options: str, bundled: Callable[..., Any], tmp_path: Path
) -> None:
    done, data, runs = bundled(kind, options)
    assert done.exit_code == 0, done.output
    (reference,) = resolve_models([MONAI], Workspace(runs))
    ours = reference.load(data).module.eval()
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "bundle" / "configs" / "inference.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's, of its own defaults
        theirs = parser.get_parsed_content("network_def").eval()
        theirs.load_state_dict(torch.load(tmp_path / "bundle" / "models" / "model.pt"))
        cases = [data.load(entry.case_id) for name in data.splits for entry in data.entries(name)]
        for case in cases:
            raw = parser.get_parsed_content("preprocessing")({"image": str(case.source)})["image"]
            image = torch.from_numpy(case.image)[None]
            with torch.no_grad():
                found, expected = theirs(torch.as_tensor(raw)[None]), ours(image)
            within = [slice(side) for side in expected.shape[2:]]
            assert_close(found[:, :, *within], expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("half empty", ",mode=volumes", "percentiles of the others"),
        ("volumes", ",mode=slices", "slices, scaled as their volume is"),
        ("volumes", ",mode=volumes,size=8", "no transform of MONAI's resizes as segbench does"),
        ("volumes", ",mode=volumes,spacing=2", "no transform of MONAI's resizes as segbench does"),
        ("pictures", ",size=16", "no transform of MONAI's resizes as segbench does"),
    ],
)
def test_what_monais_transforms_do_not_do_exactly_is_no_bundle(
    kind: str, options: str, words: str, bundled: Callable[..., Any], tmp_path: Path
) -> None:
    done, _, _ = bundled(kind, options)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert not [*(tmp_path / "bundle").iterdir()]


def test_what_answers_otherwise_within_monai_is_no_bundle(segbench: Any, tmp_path: Path) -> None:
    """Its answers are a list, of which the last counts."""
    spec = "monai/BasicUNetPlusPlus:features=4+4+4+4+4+4,stride=16"
    arguments = (spec, "--workspace", tmp_path)
    done = segbench("train", *arguments, "--dataset", DATA, "--epochs", "1")
    assert done.exit_code == 0, done.output
    done = segbench("export-model", *arguments, "--format", "monai-bundle", "--out",
                    tmp_path / "out")  # fmt: skip
    assert done.exit_code == 2
    assert "answers with several tensors" in " ".join(done.output.split())


def test_nothing_finished_is_overwritten(segbench: Any, trained: Path, tmp_path: Path) -> None:
    """A checkpoint, its own among them, and weights of whatever else; its own export may be."""
    name, out = "unet:width=4,depth=2", tmp_path / "out"
    (checkpoint,) = (trained / "models").iterdir()
    net = tmp_path / "net.py"
    net.write_text("from torch import nn\ndef build():\n    return nn.Conv2d(1, 2, 1)\n")
    ours = ("export-model", name, "--workspace", trained, "--out")
    other = ("export-model", f"{net}:build", "--dataset", DATA, "--out")
    before = {path: path.read_bytes() for path in checkpoint.iterdir()}
    for command in (ours, other):
        done = segbench(*command, checkpoint)
        assert done.exit_code == 2
        assert "is a checkpoint, which would be overwritten" in " ".join(done.output.split())
    assert {path: path.read_bytes() for path in checkpoint.iterdir()} == before
    assert [segbench(*ours, out).exit_code for _ in range(2)] == [0, 0]
    held = (out / "model.safetensors").read_bytes()
    assert segbench(*other, out).exit_code == 2
    assert (out / "model.safetensors").read_bytes() == held
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"mine")
    done = segbench(*ours, tmp_path / "mine")
    assert done.exit_code == 2
    assert "holds model.safetensors of another network" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("form", "file", "load", "save"),
    [
        ("safetensors", "model.safetensors", load_file, save_file),
        ("monai-bundle", "models/model.pt", torch.load, torch.save),
    ],
)
def test_weights_that_changed_since_their_export_are_not_overwritten(
    form: str, file: str, load: Any, save: Any, segbench: Any, monai_trained: Path, tmp_path: Path
) -> None:
    """Whatever the card beside them says; but they are once they are as they were."""
    command = ("export-model", MONAI, "--format", form, "--out", tmp_path / "out", "--workspace",
               monai_trained)  # fmt: skip
    assert segbench(*command).exit_code == 0
    path = tmp_path / "out" / file
    first, tensors = path.read_bytes(), load(path)
    name = next(iter(tensors))
    save({**tensors, name: tensors[name] + 1}, path)
    changed = path.read_bytes()
    for content in (changed, b"foreign"):
        path.write_bytes(content)
        done = segbench(*command)
        assert done.exit_code == 2
        assert f"holds {file} with other tensors" in " ".join(done.output.split())
        assert path.read_bytes() == content
    path.write_bytes(first)
    assert segbench(*command).exit_code == 0
    whole = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    for stopped in whole.keys() - {path}:  # one that was stopped had written these weights alone
        stopped.unlink()
    path.write_bytes(changed)
    assert segbench(*command).exit_code == 2
    path.write_bytes(first)
    assert segbench(*command).exit_code == 0
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == whole


@pytest.mark.parametrize("form", ["safetensors", "monai-bundle"])
def test_flips_are_no_part_of_what_is_exported(
    form: str, segbench: Any, monai_trained: Path, tmp_path: Path
) -> None:
    done = segbench("export-model", MONAI, "--tta", "flips", "--format", form, "--out",
                    tmp_path / "out", "--workspace", monai_trained)  # fmt: skip
    assert done.exit_code == 2
    assert "--tta is no part of a network's weights" in " ".join(done.output.split())


NETS = """
from torch import nn
from torch.nn import Conv2d, Sequential
def logit(): return Conv2d(1, 1, 1)
def probability(): return Sequential(Conv2d(1, 1, 1), nn.Sigmoid())
def logits(): return Conv2d(1, 2, 1)
def probabilities(): return Sequential(Conv2d(1, 2, 1), nn.Softmax(1))
def misfit(): return Conv2d(7, 2, 1)
class Kept(nn.Module):
    def __init__(self): super().__init__(); self.head = Conv2d(1, 2, 1)
    def forward(self, images): return self.head(images)
    def get_extra_state(self): return {"made": "2024"}
    def set_extra_state(self, state): pass
def kept(): return Kept()
"""


@pytest.mark.parametrize(
    ("factory", "output"),
    [
        ("logit", ("sigmoid", 1, "logits")),
        ("probability", ("sigmoid", 1, "probabilities")),
        ("logits", ("softmax", 2, "logits")),
        ("probabilities", ("softmax", 2, "probabilities")),
        ("misfit", ("not known",) * 3),
    ],
)
def test_a_card_says_what_a_network_answers_or_that_it_is_not_known(
    factory: str, output: tuple[Any, ...], segbench: Any, tmp_path: Path
) -> None:
    net, out = tmp_path / "net.py", tmp_path / "out"
    net.write_text(NETS)
    done = segbench("export-model", f"{net}:{factory}", "--dataset", DATA, "--out", out)
    assert done.exit_code == 0, done.output
    card = json.loads((out / "model_card.json").read_text())
    assert (card["output"], card["output_channels"], card["output_values"]) == output


def test_the_card_of_an_ensemble_says_what_each_member_is_under_and_wants(
    segbench: Any, monai_trained: Path, tmp_path: Path
) -> None:
    bundle, net, out = tmp_path / "bundle", tmp_path / "net.py", tmp_path / "out"
    done = segbench("export-model", MONAI, "--format", "monai-bundle", "--out", bundle,
                    "--workspace", monai_trained)  # fmt: skip
    assert done.exit_code == 0, done.output
    (bundle / "LICENSE").write_text("CC-BY-NC-4.0\n")
    net.write_text(NETS)
    both = f"ensemble:monai-bundle:{bundle}+{net}:logits"
    for command, words in (
        (("export-model", both, "--out", out), "wrote"),
        (("inspect", both), "monai-bundle:bundle: CC-BY-NC-4.0; net:logits: not said"),
    ):
        done = segbench(*command, "--dataset", DATA)
        assert done.exit_code == 0, done.output
        assert words in " ".join(done.output.split())
    card = json.loads((out / "model_card.json").read_text())
    assert "CC-BY-NC-4.0" in card["licence"]
    assert [member["licence"] for member in card["members"]] == ["CC-BY-NC-4.0", "not said"]
    assert not (out / "card.json").exists()
    out = tmp_path / "normalized"
    done = segbench("export-model", f"ensemble:{net}:logits+{net}:logit", "--normalize", "zscore",
                    "--dataset", DATA, "--out", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    card = json.loads((out / "model_card.json").read_text())
    assert card["image"]["normalization"] == "see members"
    assert all(member["normalization"]["per_image"] for member in card["members"])


def test_state_that_is_no_tensor_is_attacked_and_in_no_weights_file(
    segbench: Any, tmp_path: Path
) -> None:
    net, file = tmp_path / "net.py", tmp_path / "w.pt"
    net.write_text(NETS)
    torch.save({"head.weight": torch.ones(2, 1, 1, 1), "head.bias": torch.ones(2)}, file)
    common = (f"{net}:kept", "--dataset", DATA)
    for more in (("--out", tmp_path / "out"), ("--out", tmp_path / "out", "--weights", file)):
        done = segbench("export-model", *common, *more)
        assert done.exit_code == 2
        assert "keeps _extra_state, of type dict, beside" in " ".join(done.output.split())
    done = segbench("attack", "-m", *common, "-a", "fgsm", "--eps", "1/255", "--workspace",
                    tmp_path / "runs")  # fmt: skip
    assert done.exit_code == 0, done.output


def test_what_is_no_network_of_monais_is_no_bundle(
    segbench: Any, trained: Path, tmp_path: Path
) -> None:
    done = segbench("export-model", "unet:width=4,depth=2", "--format", "monai-bundle", "--out",
                    tmp_path / "out", "--workspace", trained)  # fmt: skip
    assert done.exit_code == 2
    assert "trained as monai/NAME" in " ".join(done.output.split())
