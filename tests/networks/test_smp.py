"""Folders of segmentation-models-pytorch's ``save_pretrained``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F
from torch.testing import assert_close

import segbench
from segbench.cli import main
from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.networks.adapt import adapt_network
from segbench.networks.imported import read_import
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

smp = pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DATA = "phantom-skin:size=32,train_cases=2,test_cases=2"
SMALL: dict[str, Any] = {"encoder_weights": None, "classes": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "Unet": {"decoder_channels": (16, 8, 8, 4, 4)},
    "UnetPlusPlus": {"decoder_channels": (16, 8, 8, 4, 4)},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "DeepLabV3Plus": {"decoder_channels": 8},
    "Segformer": {"encoder_name": "mit_b0", "decoder_segmentation_channels": 8},
    "Unet of timm": {"encoder_name": "tu-resnet10t", "decoder_channels": (16, 8, 8, 4, 4)},
    "one channel, with a class beside it": {
        "classes": 1, "activation": "sigmoid", "aux_params": {"classes": 3},
        "decoder_channels": (16, 8, 8, 4, 4),
    },
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("offline")


def loaded(folder: Path) -> Any:
    reference = read_import(f"smp:{folder}")
    assert reference is not None
    return reference.load(open_dataset(DATA, None))


def saved(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    kind = getattr(smp, name.partition(" ")[0], smp.Unet)
    kind(**{"encoder_name": "resnet18", **SMALL, **NETWORKS[name]}).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved("Unet", tmp_path / "net")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folder_answers_as_its_network_and_so_does_its_gradient(
    name: str, tmp_path: Path
) -> None:
    folder = saved(name, tmp_path / "net")
    adapted = adapt_network(loaded(folder).module, [(3, 64, 64)], classes=2)
    theirs, images = smp.from_pretrained(folder).eval(), torch.rand(2, 3, 64, 64)
    found, expected = images.clone().requires_grad_(), images.clone().requires_grad_()
    answers, logits = adapted.module(found), theirs(expected)
    if "aux_params" in NETWORKS[name]:
        logits = logits[0].logit()
    assert_close(answers, logits, atol=1e-4, rtol=1e-4)
    for image, answer in ((found, answers), (expected, logits)):
        answer.square().sum().backward()
        assert image.grad is not None
    assert_close(found.grad, expected.grad, atol=1e-3, rtol=1e-2)
    assert expected.grad.abs().amax() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["FPN", "DeepLabV3Plus", "Segformer", "Unet of timm"])
def test_an_attack_follows_the_gradient_of_its_network_by_hand(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path / "net")
    module, theirs = loaded(folder).module, smp.from_pretrained(folder).eval()
    images, labels = torch.rand(1, 3, 64, 64), torch.randint(0, 2, (1, 64, 64))
    wished = {"eps": 0.02, "normalize": "imagenet", "precision": "fp32"}
    found = segbench.attack(module, images, labels, "fgsm", **wished)
    mean, std = (torch.tensor(n).reshape(1, 3, 1, 1) for n in IMAGENET)
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(theirs((leaf - mean) / std), labels), leaf)
    expected = (images + 0.02 * gradient.sign()).clamp(0, 1)
    assert ((found - expected).abs() < 1e-6).float().mean() > 0.99


def test_a_folder_is_inspected_and_attacked_from_the_command_line(tmp_path: Path) -> None:
    folder = saved("Unet of timm", tmp_path / "net")
    data = ["--normalize", "imagenet", "--dataset", DATA, "--workspace", str(tmp_path / "runs")]
    shown = CliRunner().invoke(main, ["inspect", f"smp:{folder}", *data])
    assert shown.exit_code == 0, shown.output
    assert "class       Unet, encoder tu-resnet10t" in shown.output
    done = CliRunner().invoke(
        main, ["attack", "-m", f"smp:{folder}", "-a", "pgd:steps=5", "--eps", "0.1", *data]
    )
    assert done.exit_code == 0, done.output
    jaccard = read_rows(Workspace(tmp_path / "runs")).groupby("attack")["jaccard"].mean()
    assert jaccard["pgd:steps=5"] < jaccard["clean"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"_model_class": "os.system"}, "names os.system, which is no network of smp's"),
        ({"_model_class": "losses"}, "names losses, which is no network"),
        ({"encoder_name": "evil"}, "describes no Unet"),
        ({"encoder_name": "tu-hf-hub:evil/net"}, "names the encoder 'tu-hf-hub:evil/net'"),
        ({"encoder_name": "tu-local-dir:/tmp"}, "names the encoder 'tu-local-dir:/tmp'"),
        ({"encoder_name": ["resnet18"]}, "names the encoder"),
        ({"checkpoint_path": "/etc/passwd"}, "gives its encoder checkpoint_path = '/etc/passwd'"),
        ({"pretrained_cfg": {"url": "http://evil"}}, "gives its encoder pretrained_cfg"),
        ({"decoder_channels": "evil"}, "describes no Unet"),
        ({"decoder_channels": [8, 8, 8, 4, 4]}, "do not fit the network"),
    ],
)
def test_a_folder_that_is_no_network_is_refused(
    values: dict[str, Any], words: str, folder: Path
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(UserError, match=words) as caught:
        loaded(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is no configuration"):
        loaded(tmp_path)
