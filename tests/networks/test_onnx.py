"""ONNX files: a black box where they are not converted, and nothing read beside their folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.testing import assert_close

from segbench.cli import main
from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.networks.adapt import adapt_network
from segbench.networks.imported import read_import
from segbench.networks.onnx import BlackBox
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
    monkeypatch.setitem(__import__("sys").modules, "onnx2torch", None)
    path = saved(tmp_path / "net.onnx")
    data = ["--dataset", DATA, "--eps", "0.2", "--workspace", str(tmp_path / "runs")]
    attack = ["attack", "-m", f"onnx:{path}", *data, "-a"]
    done = CliRunner().invoke(main, [*attack, "square:steps=50"])
    assert done.exit_code == 0, done.output
    assert "gradients cannot be had: onnx2torch does not import" in " ".join(done.output.split())
    rows = read_rows(Workspace(tmp_path / "runs"))
    assert set(rows["model"]) == {"onnx:net.onnx"}
    refused = CliRunner().invoke(main, [*attack, "pgd"])
    assert refused.exit_code == 2
    words = " ".join(refused.output.split())
    assert "gives no gradient: an ONNX network that is a black box here" in words
    shown = CliRunner().invoke(main, ["inspect", f"onnx:{path}", *data[:2]])
    assert "do NOT flow" in shown.output


def test_a_conversion_serves_only_where_its_answers_are_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    found = loaded(saved(tmp_path / "net.onnx"))
    assert not isinstance(found.module, BlackBox)


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
