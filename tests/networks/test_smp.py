"""Folders of segmentation-models-pytorch's ``save_pretrained``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.networks.adapt import adapt_network
from segbench.networks.imported import read_import

smp = pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)


def loaded(folder: Path) -> Any:
    reference = read_import(f"smp:{folder}")
    assert reference is not None
    return reference.load(open_dataset("phantom-skin:size=32,train_cases=2,test_cases=2", None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = smp.Unet(
        "resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 4, 4), classes=2
    )
    network.save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_a_folder_answers_as_its_network(folder: Path) -> None:
    adapted = adapt_network(loaded(folder).module, [(3, 32, 32)], classes=2)
    theirs, images = smp.from_pretrained(folder).eval(), torch.rand(2, 3, 32, 32)
    assert_close(adapted.module(images), theirs(images))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"_model_class": "os.system"}, "names os.system, which is no network of smp's"),
        ({"_model_class": "losses"}, "names losses, which is no network"),
        ({"encoder_name": "evil"}, "describes no Unet"),
        ({"decoder_channels": [8, 8, 8, 4, 4]}, "do not fit the network"),
    ],
)
def test_a_folder_that_is_no_network_is_refused(
    values: dict[str, Any], words: str, folder: Path
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(UserError, match=words):
        loaded(folder)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is no configuration"):
        loaded(tmp_path)
