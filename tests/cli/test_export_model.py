"""segbench export-model: what leaves segbench is what was in it, and others load it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from safetensors.torch import load_file
from torch.testing import assert_close

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


def test_what_is_no_network_of_monais_is_no_bundle(
    segbench: Any, trained: Path, tmp_path: Path
) -> None:
    done = segbench("export-model", "unet:width=4,depth=2", "--format", "monai-bundle", "--out",
                    tmp_path / "out", "--workspace", trained)  # fmt: skip
    assert done.exit_code == 2
    assert "trained as monai/NAME" in " ".join(done.output.split())
