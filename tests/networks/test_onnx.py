"""ONNX files: a black box where they are not converted, and nothing read beside their folder."""

from __future__ import annotations

import sys
import warnings
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.testing import assert_close

import segbench
from segbench.cli import main
from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.networks.adapt import adapt_network
from segbench.networks.imported import read_import
from segbench.networks.onnx import BlackBox
from segbench.networks.wishes import Wishes
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
DATA = "phantom-cxr:size=32,train_cases=2,test_cases=2"


def model(external: str = "") -> Any:
    """A 3 x 3 convolution to two classes, its weights in the file or said to be elsewhere."""
    torch.manual_seed(0)
    weight = nn.Conv2d(1, 2, 3, bias=False).weight.detach().numpy()
    tensor = onnx.numpy_helper.from_array(weight, "w")
    if external:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", external), ("offset", "0"), ("length", str(weight.nbytes))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    make = onnx.helper
    shapes = [["b", n, "h", "w"] for n in (1, 2)]
    graph = make.make_graph(
        [make.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], "net",
        [make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shapes[0])],
        [make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shapes[1])], [tensor],
    )  # fmt: skip
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)


def saved(path: Path, **how: Any) -> Path:
    path.write_bytes(model(**how).SerializeToString())
    return path


def loaded(path: Path) -> Any:
    reference = read_import(f"onnx:{path}")
    assert reference is not None
    return reference.load(open_dataset(DATA, None))


def test_a_file_answers_as_its_network(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path / "net.onnx"))
    adapted = adapt_network(found.module, [(1, 32, 32)], classes=2)
    torch.manual_seed(0)
    net, images = nn.Conv2d(1, 2, 3, padding=1, bias=False), torch.rand(3, 1, 32, 32)
    assert_close(adapted.module(images), net(images), atol=1e-5, rtol=1e-4)


def test_a_black_box_is_attacked_by_scores_and_refuses_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    path = saved(tmp_path / "net.onnx")
    data = ["--dataset", DATA, "--eps", "0.2", "--workspace", str(tmp_path / "runs")]
    attack = ["attack", "-m", f"onnx:{path}", *data, "-a"]
    done = CliRunner().invoke(main, [*attack, "square:steps=50"])
    assert done.exit_code == 0, done.output
    assert "gradients cannot be had: onnx2torch is not installed; run pip install" in " ".join(
        done.output.split()
    )
    rows = read_rows(Workspace(tmp_path / "runs"))
    assert set(rows["model"]) == {"onnx:net.onnx"}
    export = ["export-model", f"onnx:{path}", "--out", str(tmp_path / "out"), *data[:2]]
    empty = CliRunner().invoke(main, export)
    assert empty.exit_code == 2
    assert "onnx:net.onnx has no weights here" in " ".join(empty.output.split())
    refused = CliRunner().invoke(main, [*attack, "pgd"])
    assert refused.exit_code == 2
    words = " ".join(refused.output.split())
    assert "gives no gradient: an ONNX network that is a black box here" in words
    shown = CliRunner().invoke(main, ["inspect", f"onnx:{path}", *data[:2]])
    assert "do NOT flow" in shown.output


class Net(nn.Module):
    """What segmentation networks are made of; its answer, and one of half its size beside it."""

    def __init__(self, up: str = "bilinear", heads: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.SiLU())
        learnt = nn.ConvTranspose2d(8, 8, 2, 2)
        self.up = learnt if up == "learnt" else nn.Upsample(scale_factor=2, mode=up)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 12, 1), nn.GELU())
        self.last = nn.Conv2d(12, 2, 1, bias=False)
        with torch.no_grad():  # or one class would win everywhere
            self.last.weight -= self.last.weight.mean(1, keepdim=True)
        self.beside = nn.Conv2d(12, 2, 3, padding=1) if heads == 2 else None

    def forward(self, images: torch.Tensor) -> Any:
        high = self.first(images)
        features = torch.cat([high, self.up(self.down(high))], 1)
        features = features * (1 + self.squeeze(features))
        if self.beside is None:
            return self.last(features)
        return self.last(features), self.beside(features)


def exported(path: Path, net: nn.Module, outputs: tuple[str, ...] = ("y",), **how: Any) -> Path:
    """As torch exports it today, of any number of images of any even size."""
    pytest.importorskip("onnxscript")
    dim = torch.export.Dim
    height, width = 2 * dim("half_h", min=2), 2 * dim("half_w", min=2)
    shapes = ({0: dim("b", min=1), 2: height, 3: width},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.rand(2, 1, 16, 24),), path, dynamo=True, verbose=False,
            input_names=["x"], output_names=list(outputs), dynamic_shapes=shapes, **how,
        )  # fmt: skip
    return path


@pytest.mark.parametrize("up", ["bilinear", "nearest", "learnt"])
def test_an_exported_network_is_converted_with_its_gradient(up: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    net = Net(up)
    found = loaded(exported(tmp_path / "net.onnx", net))
    assert found.shown["onnx"] == "converted by onnx2torch; its answers are onnxruntime's"
    adapted = adapt_network(found.module, [(1, 24, 20)], classes=2)
    images, theirs = torch.rand(3, 1, 24, 20).requires_grad_(), BlackBox(tmp_path / "net.onnx")
    answer, expected = adapted.module(images), net(images)
    assert_close(answer.detach(), theirs(images), atol=1e-5, rtol=1e-4)
    gradients = [torch.autograd.grad(a.square().sum(), images)[0] for a in (answer, expected)]
    assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_an_attack_on_a_converted_network_is_that_on_the_exported_one(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    net = Net()
    found = loaded(exported(tmp_path / "net.onnx", net)).module
    images = torch.rand(2, 1, 32, 32)
    labels = net(images).argmax(1)
    ours, theirs = (
        segbench.attack(network, images, labels, "fgsm", eps=0.05) for network in (found, net)
    )
    assert (ours == theirs).float().mean() > 0.999
    assert (net(ours).argmax(1) == labels).float().mean() < 1


def test_a_converted_network_is_inspected_and_attacked(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    path = exported(tmp_path / "net.onnx", Net())
    data = ["--dataset", DATA, "--workspace", str(tmp_path / "runs")]
    shown = CliRunner().invoke(main, ["inspect", f"onnx:{path}", *data])
    assert shown.exit_code == 0, shown.output
    assert "converted by onnx2torch" in shown.output
    assert "gradients   flow" in shown.output
    attack = ["attack", "-m", f"onnx:{path}", "-a", "pgd:steps=5", "--eps", "0.1", *data]
    done = CliRunner().invoke(main, attack)
    assert done.exit_code == 0, done.output
    accuracy = read_rows(Workspace(tmp_path / "runs")).groupby("attack")["accuracy"].mean()
    assert accuracy["pgd:steps=5"] < accuracy["clean"]


@pytest.mark.parametrize("as_a_box", [False, True], ids=["converted", "black box"])
def test_its_answers_have_the_names_that_the_file_gives_them(
    as_a_box: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx2torch")
    net = Net(heads=2)
    path = exported(tmp_path / "net.onnx", net, ("main", "beside"))
    if as_a_box:
        monkeypatch.setitem(sys.modules, "onnx2torch", None)
    found = loaded(path).module
    assert isinstance(found, BlackBox) == as_a_box
    with pytest.raises(UserError, match="--output main or --output beside"):
        adapt_network(found, [(1, 32, 32)], classes=2)
    named = adapt_network(found, [(1, 32, 32)], classes=2, wishes=Wishes(output="beside"))
    images = torch.rand(2, 1, 32, 32)
    assert_close(named.module(images), net(images)[1], atol=1e-5, rtol=1e-4)


def test_a_conversion_serves_only_where_its_answers_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("onnx2torch")
    path = saved(tmp_path / "net.onnx")
    assert not isinstance(loaded(path).module, BlackBox)
    for other in (
        nn.Conv2d(1, 2, 3, padding=1),
        nn.Conv2d(1, 3, 3, padding=1),
        nn.Threshold(9, nan),
    ):
        monkeypatch.setattr(library, "convert", lambda _, other=other: other)
        found = loaded(path)
        assert isinstance(found.module, BlackBox)
        assert "what onnx2torch makes of it answers otherwise" in found.said[0]


def test_an_operator_that_is_not_converted_leaves_a_black_box_and_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    changed = model()
    changed.graph.node[0].output[0] = "z"
    changed.graph.node.append(onnx.helper.make_node("Hardmax", ["z"], ["y"], axis=1))
    (tmp_path / "net.onnx").write_bytes(changed.SerializeToString())
    found = loaded(tmp_path / "net.onnx")
    assert isinstance(found.module, BlackBox)
    assert "onnx2torch does not convert it (NotImplementedError: " in found.said[0]
    assert "Hardmax" in found.said[0]
    assert "\n" not in found.said[0]


def test_weights_in_the_files_folder_are_read_and_are_part_of_what_it_is(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.to_array(model().graph.initializer[0])
    path = saved(tmp_path / "net.onnx", external="net.data")
    hashes = []
    for factor in (1, 2):
        (tmp_path / "net.data").write_bytes((factor * weight).tobytes())
        hashes.append(loaded(path).weights_sha256)
    assert len(set(hashes)) == 2


@pytest.mark.parametrize(
    "where", ["../secret.bin", "/etc/hostname", "sub/w.bin", "..", "link.bin", "gone.bin"]
)
def test_nothing_outside_the_folder_is_read(where: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(72))
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "w.bin").write_bytes(bytes(72))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(UserError, match=r"outside its folder|which is not there") as caught:
        loaded(saved(folder / "net.onnx", external=where))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, b"\x08\x09"])
def test_a_file_that_is_none_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"net\.onnx is no ONNX file") as caught:
        loaded(path)
    assert "\n" not in str(caught.value)


def test_an_operator_that_onnxruntime_lacks_is_refused(tmp_path: Path) -> None:
    changed = model()
    changed.graph.node[0].domain = "evil"
    changed.opset_import.add().domain = "evil"
    (tmp_path / "net.onnx").write_bytes(changed.SerializeToString())
    with pytest.raises(UserError, match="cannot be run by onnxruntime") as caught:
        loaded(tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
