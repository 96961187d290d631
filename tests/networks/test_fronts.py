"""Networks behind a front: attacked around it, scored through it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

import segbench
from segbench.api import Goal
from segbench.cli import main
from segbench.engine.objective import NetworkObjective
from segbench.errors import UserError
from segbench.networks.front_layers import FRONTS, BitDepth, Jpeg, Median, Randomise, TotalVariation
from segbench.networks.fronted import Fronted, read_front
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

DATA = "phantom-cxr:size=32,test_cases=3"


def net() -> nn.Module:
    """Bright is foreground; one weight, so that a gradient is known by hand."""
    layer = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(8.0)
        layer.bias.fill_(-4.0)  # type: ignore[union-attr]
    return layer


def test_bits_are_rounded_and_files_are_those_that_pillow_writes() -> None:
    images = torch.rand(2, 1, 16, 24)
    assert_close(BitDepth(3)(images) * 7, (images * 7).round())
    file = io.BytesIO()
    Image.fromarray((images[1, 0] * 255).round().byte().numpy()).save(file, "JPEG", quality=40)
    assert_close(Jpeg(40)(images)[1, 0] * 255, torch.tensor(np.asarray(Image.open(file))).float())
    assert Jpeg(40)(torch.rand(2, 3, 16, 24)).shape == (2, 3, 16, 24)
    with pytest.raises(UserError, match="is for images"):
        Jpeg()(torch.rand(1, 1, 4, 4, 4))


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7)])
def test_a_median_is_the_middle_of_the_pixels_around(shape: tuple[int, ...]) -> None:
    from scipy import ndimage

    image = np.random.default_rng(0).random(shape, np.float32)
    expected = ndimage.median_filter(image, 3, mode="nearest")
    np.testing.assert_allclose(Median(3)(torch.from_numpy(image)[None, None])[0, 0], expected)


@pytest.mark.parametrize("shape", [(24, 24), (10, 10, 10)])
def test_total_variation_is_less_and_what_it_minimises_too(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    image = 0.5 + 0.1 * torch.randn(1, 1, *shape, generator=generator)
    image[..., : shape[-1] // 2] += 0.3

    def variation(values: Tensor) -> Tensor:
        slopes = [
            nn.functional.pad(values.diff(dim=axis), [0, 0] * (values.dim() - 1 - axis) + [0, 1])
            for axis in range(2, values.dim())
        ]
        return torch.stack(slopes).square().sum(0).sqrt().sum()

    def energy(values: Tensor) -> Tensor:
        return (values - image).square().sum() / 2 + 0.1 * variation(values)

    image = image.clamp(0, 1)
    few, many = (TotalVariation(0.1, steps)(image) for steps in (20, 150))
    assert energy(many) < energy(few) < energy(image)
    assert variation(few) < variation(image) / 2
    for sign in (-1, 1):  # no small change of the minimiser is better
        other = many + sign * 0.01 * torch.randn(many.shape, generator=generator)
        assert energy(many) < energy(other)


def test_a_random_front_draws_and_leaves_pixels_in_their_places() -> None:
    front, ramp = Randomise(0.5), torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    first, second = front(ramp), front(ramp)
    assert not torch.equal(first, second)
    assert (first - ramp)[..., 3:-3].abs().max() < 0.02
    assert front.eot_samples == 8


@pytest.mark.parametrize("name", FRONTS)
def test_every_front_is_gone_around(name: str, prepared: Any) -> None:
    """The gradient points to where the images go, whatever the front does to it."""
    images = 0.2 + 0.6 * torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    network = prepared(Fronted(FRONTS[name](), net()), images)
    truth = torch.ones(2, 16, 16, dtype=torch.int64)

    def loss(logits: Tensor, goal: Goal) -> Tensor:
        pixels = nn.functional.cross_entropy(logits, goal.labels, reduction="none")
        return pixels.flatten(1).sum(1)

    gradient = NetworkObjective(network).value_and_grad(images, loss, Goal(truth, truth)).gradient
    assert gradient.flatten(1).sum(1).lt(0).all()  # darker is worse for what is bright
    expected = {"bit-depth": ("bpda",), "jpeg": ("bpda",), "randomise": ("eot:8",)}
    assert network.marks == expected.get(name, ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jpg", "did you mean 'jpeg'"),
        ("jpeg:quality=0", "quality=0 must lie between 1 and 95"),
        ("median:size=4", "size=4 must be odd"),
        ("bit-depth:depth=3", "depth"),
        ("tv:weight=x", "weight"),
    ],
)
def test_other_fronts_are_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_front(text)
    done = CliRunner().invoke(main, ["inspect", "unet", "--front", text, "--dataset", DATA])
    assert done.exit_code == 2


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a network of the user's own attacked bare, and behind two fronts."""
    root = tmp_path_factory.mktemp("fronts")
    (root / "net.py").write_text(
        "from torch import nn\ndef build():\n    layer = nn.Conv2d(1, 1, 1)\n"
        "    nn.init.constant_(layer.weight, -9.0)\n    nn.init.constant_(layer.bias, 4.0)\n"
        "    return layer\n"
    )
    for front in ([], ["--front", "bit-depth:bits=2"], ["--front", "median"]):
        done = CliRunner().invoke(main, [
            "attack", "-m", f"{root / 'net.py'}:build", *front, "-a", "pgd:steps=5", "--eps", "0.1",
            "--dataset", DATA, "--workspace", str(root / "runs"),
        ])  # fmt: skip
        assert done.exit_code == 0, done.output
    return root


def test_a_front_makes_another_network_of_another_name(shelf: Path) -> None:
    rows = read_rows(Workspace(shelf / "runs"))
    names = {"net:build", "net:build (bit-depth:bits=2)", "net:build (median)"}
    assert set(rows["model"]) == names
    assert rows.groupby("model")["network_sha256"].nunique().eq(1).all()
    assert rows["network_sha256"].nunique() == 3
    assert rows["weights_sha256"].nunique() == 1
    marks = rows.groupby("model")["marks"].unique().map(set).to_dict()
    assert marks["net:build (bit-depth:bits=2)"] == {"bpda"}
    scores = rows.groupby(["model", "attack"])["accuracy"].mean()
    for name in names:
        assert scores[name, "pgd:steps=5"] < scores[name, "clean"] - 0.05


@pytest.mark.filterwarnings("ignore:.*its clean score is no better")
def test_python_asks_for_fronts_and_flips_as_the_command_line_does(shelf: Path) -> None:
    network = nn.Conv2d(1, 2, 3, padding=1)
    data = torch.rand(3, 1, 16, 16), torch.randint(0, 2, (3, 16, 16))
    asked: dict[str, Any] = {"attacks": ["fgsm"], "eps": ["8/255"], "device": "cpu"}
    found = {
        said: segbench.evaluate(network, data, **asked, **dict([said] if said else []))
        for said in (None, ("front", "bit-depth:bits=1"), ("tta", "flips"))
    }
    bare, *others = (result.cases["accuracy"].to_numpy() for result in found.values())
    for scores in others:
        assert not np.array_equal(bare, scores)
    names = [result.cases["model"].unique().tolist() for result in found.values()]
    assert names == [["Conv2d"], ["Conv2d (bit-depth:bits=1)"], ["Conv2d (flips)"]]


def test_what_is_scored_is_the_image_through_the_front(shelf: Path) -> None:
    rows = read_rows(Workspace(shelf / "runs"))
    clean = rows[(rows.attack == "clean") & (rows.model == "net:build (bit-depth:bits=2)")]
    from segbench.data import open_dataset

    data = open_dataset(DATA, None)
    expected = {}
    for entry in data.entries("test"):
        case = data.load(entry.case_id)
        logits = -9 * np.rint(case.image[0] * 3) / 3 + 4
        expected[entry.case_id] = float(((logits > 0) == (case.labels == 1)).mean())
    pd.testing.assert_series_equal(
        clean.set_index("case_id")["accuracy"].sort_index(),
        pd.Series(expected).sort_index(),
        check_names=False,
        rtol=1e-6,
    )
