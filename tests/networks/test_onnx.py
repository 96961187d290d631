"""ONNX files: a black box where they are not converted, and nothing read beside their folder."""

from __future__ import annotations

import sys
import warnings
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torch.testing import assert_close

import segbench
from segbench.cli import main
from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.evaluation.request import DataSource, Options
from segbench.evaluation.subject import load_subject
from segbench.evaluation.taken import entries_of
from segbench.networks import resolve_models
from segbench.networks.adapt import adapt_network
from segbench.networks.imported import read_import
from segbench.networks.onnx import BlackBox
from segbench.networks.stand_ins import alike
from segbench.networks.wishes import NO_WISHES, Wishes
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
DATA = "phantom-cxr:size=32,train_cases=2,test_cases=2"


ANY = ("b", "h", "w")


def model(external: str = "", sizes: tuple[int | str, ...] = ANY) -> Any:
    """A 3 x 3 convolution to two classes, its weights in the file or said to be elsewhere.

    Args:
        sizes: (B, height, width) that it takes.
    """
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
    shapes = [[sizes[0], n, *sizes[1:]] for n in (1, 2)]
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


def pooled(path: Path, loud: float = 1.0, down: int = 2) -> Path:
    """A skip, and what is pooled and enlarged to its size by the nearest pixel's middle.

    onnx2torch takes the nearest corner instead, which where sizes are odd is another pixel.

    Args:
        path: of the file.
        loud: by what its images are divided before they are clipped to [0, 1] and seen.
        down: how many pixels along a side are pooled to one.
    """
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    torch.manual_seed(3)
    head = torch.randn(2, 2, 1, 1)
    weights = {
        "w": torch.randn(1, 1, 3, 3).numpy(), "head": (head - head.mean(1, keepdim=True)).numpy(),
        "loud": torch.tensor(loud).numpy(), "low": torch.tensor(0.0).numpy(),
        "high": torch.tensor(1.0).numpy(),
    }  # fmt: skip
    nodes = [
        make.make_node("Div", ["x", "loud"], ["soft"]),
        make.make_node("Clip", ["soft", "low", "high"], ["clipped"]),
        make.make_node("Conv", ["clipped", "w"], ["a"], pads=[1, 1, 1, 1]),
        make.make_node("MaxPool", ["a"], ["p"], kernel_shape=[down] * 2, strides=[down] * 2),
        make.make_node("Shape", ["a"], ["size"]),
        make.make_node(
            "Resize", ["p", "", "", "size"], ["u"], mode="nearest",
            coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor",
        ),
        make.make_node("Concat", ["a", "u"], ["c"], axis=1),
        make.make_node("Conv", ["c", "head"], ["y"]),
    ]  # fmt: skip
    graph = make.make_graph(
        nodes, "net",
        [make.make_tensor_value_info("x", kind, ["b", 1, "h", "w"])],
        [make.make_tensor_value_info("y", kind, ["b", 2, "h", "w"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    opset = [make.make_opsetid("", 13)]
    path.write_bytes(make.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    return path


def scored(
    text: str, folder: Path, *sizes: tuple[int, int], wishes: Wishes = NO_WISHES, **how: Any
) -> tuple[Any, torch.Tensor]:
    """The network as it is attacked on pictures (height, width), and the first of them."""
    draw = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, size in enumerate(sizes):
        pixels = draw.integers(0, 256, size, np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray((pixels > 127).astype(np.uint8)).save(folder / "masks" / f"{number}.png")
    data = open_dataset("folder", folder)
    (reference,) = resolve_models([text], Workspace(folder / "runs"), (), wishes)
    source = DataSource("folder", data, "all", entries_of(data, "all"))
    subject = load_subject(reference, source, Options(device="cpu", **how))
    return subject, torch.from_numpy(data.load("0").image)[None]


CONVERTED, BOX = {"onnx": "converted by onnx2torch; its answers are onnxruntime's"}, "a black box"


def test_a_conversion_serves_where_it_is_the_same_network_at_every_size_of_the_data(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnx2torch")
    path = pooled(tmp_path / "net.onnx")
    even, _ = scored(f"onnx:{path}", tmp_path / "even", (48, 64), (32, 32))
    assert even.model.shown == CONVERTED
    odd, images = scored(f"onnx:{path}", tmp_path / "odd", (51, 45), (32, 32))
    assert BOX in odd.model.shown["onnx"]
    assert "answers otherwise about images of 51 x 45" in odd.said[0]
    assert_close(odd.module(images), BlackBox(path)(images))
    assert odd.sha256 != even.sha256
    with torch.no_grad():
        stood = loaded(path).module(images).argmax(1) != odd.module(images).argmax(1)
    assert stood.any()  # what it would have been scored as


def test_a_conversion_is_compared_on_images_as_the_network_is_shown_them(tmp_path: Path) -> None:
    """Of [0, 1] this network sees next to nothing: it is made for 0 to 255."""
    pytest.importorskip("onnx2torch")
    path = pooled(tmp_path / "net.onnx", loud=255.0)
    wishes = Wishes(normalize="0-255")
    found, images = scored(f"onnx:{path}", tmp_path / "odd", (51, 45), wishes=wishes)
    assert BOX in found.model.shown["onnx"]
    assert_close(found.module(images), BlackBox(path)(255 * images))
    real, _ = scored(f"onnx:{path}", tmp_path / "even", (48, 64), wishes=wishes)
    assert real.model.shown == CONVERTED


def test_a_conversion_is_compared_at_the_size_of_a_tile(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    path = pooled(tmp_path / "net.onnx")
    found, images = scored(f"onnx:{path}", tmp_path / "a", (64, 64), tiles="33")
    assert "answers otherwise about images of 33 x 33" in found.said[0]
    part = images[..., :33, :33]
    assert_close(found.module.ask(part), BlackBox(path)(part))
    whole, _ = scored(f"onnx:{path}", tmp_path / "b", (51, 45), tiles="32")
    assert whole.model.shown == CONVERTED


@pytest.mark.parametrize("tiles", ["", "33"])
@pytest.mark.parametrize("within", ["ensemble", "flips", "front"])
def test_a_conversion_within_another_network_is_held_to_the_same(
    within: str, tiles: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnx2torch")
    path = pooled(tmp_path / "net.onnx")
    text = f"onnx:{path}"
    wishes = NO_WISHES
    if within == "ensemble":
        text = f"ensemble:onnx:{path}+onnx:{exported(tmp_path / 'other.onnx', Net())}"
    elif within == "flips":
        wishes = Wishes(tta="flips")
    else:
        wishes = Wishes(front="median")
    size = (64, 64) if tiles else (51, 44)
    found, _ = scored(text, tmp_path / "data", size, wishes=wishes, tiles=tiles)
    assert any(f"about images of {tiles or 51} x {tiles or 44}" in said for said in found.said)
    parts = [part for part in found.module.modules() if isinstance(part, BlackBox)]
    assert len(parts) == 1
    assert "black box" in found.module.no_gradient


def test_an_ensemble_of_which_one_gives_no_gradient_gives_none(tmp_path: Path) -> None:
    """That of the others is not the ensemble's."""
    pytest.importorskip("onnx2torch")
    box, other = pooled(tmp_path / "net.onnx"), exported(tmp_path / "other.onnx", Net())
    found, images = scored(f"ensemble:onnx:{box}+onnx:{other}", tmp_path / "data", (51, 44))
    assert not found.module(images.requires_grad_()).requires_grad


def test_sizes_that_onnxruntime_refuses_are_padded_for_it(tmp_path: Path) -> None:
    """A converted reshape may take what the file does not."""
    library = pytest.importorskip("onnx2torch")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        make.make_node("SpaceToDepth", ["x"], ["s"], blocksize=4),
        make.make_node("DepthToSpace", ["s"], ["one"], blocksize=4),
        make.make_node("Neg", ["one"], ["other"]),
        make.make_node("Concat", ["one", "other"], ["y"], axis=1),
    ]
    graph = make.make_graph(
        nodes, "net",
        [make.make_tensor_value_info("x", kind, ["b", 1, "h", "w"])],
        [make.make_tensor_value_info("y", kind, ["b", 2, "h", "w"])],
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    opset = [make.make_opsetid("", 13)]
    path.write_bytes(make.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "convert", lambda _: Both())
        found, images = scored(f"onnx:{path}", tmp_path / "data", (30, 32))
    assert found.model.shown == CONVERTED
    images.requires_grad_()
    shown: list[torch.Size] = []
    (network,) = (part for part in found.module.modules() if isinstance(part, Both))
    network.register_forward_pre_hook(lambda _, given: shown.append(given[0].shape[2:]))
    answer = found.module(images)
    assert shown == [(32, 32)]
    assert_close(answer, Both()(images))
    assert answer.requires_grad


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("side", [48, 40])
def test_a_conversion_serves_for_a_file_of_one_size(batch: int, side: int, tmp_path: Path) -> None:
    """Of 48 pixels and of so many images at once; smaller images are padded, as for the file."""
    pytest.importorskip("onnx2torch")
    path = saved(tmp_path / "net.onnx", sizes=(batch, 48, 48))
    found, images = scored(f"onnx:{path}", tmp_path / "data", (side, side))
    assert found.model.shown == CONVERTED
    answer = found.module(images.requires_grad_())
    lack = 48 - side
    padded = nn.functional.pad(images, (0, lack, 0, lack), mode="replicate").detach()
    theirs = BlackBox(path)(padded.repeat(batch, 1, 1, 1))[:1, :, :side, :side]
    assert_close(answer.detach(), theirs, atol=1e-5, rtol=1e-4)
    assert answer.requires_grad


def test_a_black_box_of_so_many_images_at_once_takes_any_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    found, _ = scored(
        f"onnx:{saved(tmp_path / 'net.onnx', sizes=(2, 48, 48))}", tmp_path / "data", (48, 48)
    )
    assert BOX in found.model.shown["onnx"]
    torch.manual_seed(0)
    net = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    for count in (1, 2, 3):
        images = torch.rand(count, 1, 48, 48)
        assert_close(found.module(images), net(images).detach(), atol=1e-5, rtol=1e-4)


def test_sizes_that_are_padded_to_the_same_are_compared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx2torch")
    path = exported(tmp_path / "net.onnx", Net())
    asked: list[tuple[int, ...]] = []
    answer = BlackBox.forward

    def counted(box: BlackBox, images: torch.Tensor) -> Any:
        asked.append(tuple(images.shape))
        return answer(box, images)

    monkeypatch.setattr(BlackBox, "forward", counted)
    sizes = (31, 45), (31, 46), (32, 45), (32, 46), (36, 45)
    found, _ = scored(f"onnx:{path}", tmp_path / "data", *sizes)
    assert found.model.shown == CONVERTED
    compared = [shape[2:] for shape in asked if shape[0] == 1]
    assert compared == [(32, 46)] * 2 + [(36, 46)] * 2  # noise, and a part of an image


class Both(nn.Module):
    """The image, and its negative."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images, -images], 1)


def test_inspect_says_what_is_attacked(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    path = pooled(tmp_path / "net.onnx")
    scored(f"onnx:{path}", tmp_path / "data", (32, 32), (51, 45))
    data = ["--dataset", "folder", "--data-root", str(tmp_path / "data")]
    shown = CliRunner().invoke(main, ["inspect", f"onnx:{path}", *data])
    assert shown.exit_code == 0, shown.output
    assert "a black box through onnxruntime" in shown.output
    assert "converted by onnx2torch" not in shown.output


@pytest.mark.parametrize("apart", [0.1, 0.0])
def test_what_all_classes_have_in_common_makes_no_answers_alike(apart: float) -> None:
    expected = 1000 + torch.rand(1, 2, 8, 8)
    assert alike(expected + apart * torch.rand(1, 2, 8, 8).sub(0.5), expected) == (apart == 0)


def test_a_constant_of_no_numbers_is_part_of_a_network(tmp_path: Path) -> None:
    """Such as the region that ``Resize`` of opset 11 has and does not look at."""
    pytest.importorskip("onnx2torch")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    torch.manual_seed(0)
    constants = {
        "w": torch.randn(2, 1, 3, 3).numpy(), "roi": np.array([], np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    how = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
    nodes = [
        make.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make.make_node("Conv", ["p", "w"], ["q"], pads=[1] * 4),
        make.make_node("Resize", ["q", "roi", "scales"], ["y"], **how),
    ]
    graph = make.make_graph(
        nodes, "net",
        [make.make_tensor_value_info("x", kind, ["b", 1, "h", "w"])],
        [make.make_tensor_value_info("y", kind, ["b", 2, "h", "w"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    path, opset = tmp_path / "net.onnx", [make.make_opsetid("", 11)]
    path.write_bytes(make.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    found, images = scored(f"onnx:{path}", tmp_path / "data", (32, 30))
    assert found.model.shown == CONVERTED
    assert_close(found.module(images), BlackBox(path)(images), atol=1e-5, rtol=1e-4)


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
