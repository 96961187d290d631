"""segbench.evaluate: the command line's own numbers, and nothing of the caller's is touched."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from toys import Curved, curved_scene

import segbench
from segbench.cli import main
from segbench.data import load_dataset
from segbench.errors import UserError
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

PHANTOMS = "phantom-cxr:size=32,train_cases=2,test_cases=4"
NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images):
        return self.head(torch.tanh(self.body(images)))
"""


Run = Callable[..., Any]


def test_importing_costs_nothing(
    run: Run,
) -> None:
    code = "import segbench, sys; print(*sys.modules, sep='\\n'); print(dir(segbench))"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 2  # half a second on an idle machine
    assert not {"torch", "numpy", "pandas", "pydantic"} & set(done.stdout.split())
    assert "register_attack" in done.stdout
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        segbench.evalute  # type: ignore[attr-defined]  # noqa: B018


def test_python_and_the_command_line_give_and_share_the_same_rows(run: Run, tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(NETWORK)
    args = ["attack", "-m", f"{net}:Net", "--dataset", PHANTOMS, "-a", "fgsm", "-a", "pgd:steps=3",
            "--eps", "2/255,8/255", "--device", "cpu", "--precision", "fp32",
            "--workspace", str(tmp_path / "cli")]  # fmt: skip
    assert CliRunner().invoke(main, args).exit_code == 0
    asked: Any = {
        "attacks": ["fgsm", "pgd:steps=3"],
        "eps": ["2/255", "8/255"],
        "precision": "fp32",
    }
    result, heard = run(f"{net}:Net", PHANTOMS, tmp_path / "python", **asked)
    same = [name for name in ("cell", *rowfile.COLUMNS) if name != "seconds"]
    rows = [read_rows(Workspace(tmp_path / folder))[same] for folder in ("cli", "python")]
    pd.testing.assert_frame_equal(*rows)
    assert (heard.computed, heard.found) == (5 * 4, 0)
    _, heard = run(f"{net}:Net", PHANTOMS, tmp_path / "cli", **asked)
    assert (heard.computed, heard.found) == (0, 5 * 4)
    assert set(result.cases["attack"]) >= {"fgsm", "pgd"}
    assert {"clean", "2/255", "8/255"} <= set(result.summary)


def test_every_kind_of_data_gives_the_same_scores(run: Run, tmp_path: Path) -> None:
    dataset = load_dataset(PHANTOMS)
    cases = [dataset.load(entry.case_id) for entry in dataset.entries("test")]
    images, labels = (np.stack([getattr(c, what) for c in cases]) for what in ("image", "labels"))
    pairs = [(images, labels), (torch.from_numpy(images), torch.from_numpy(labels).byte())]
    found = []
    for n, data in enumerate([PHANTOMS, dataset, segbench.InMemory(images, labels), *pairs]):
        result, _ = run(Curved(), data, tmp_path / str(n))
        found.append(result.cases.sort_values(["budget", "case_id"])["jaccard"].tolist())
    assert len(found[0]) == 8
    for scores in found[1:]:
        assert scores == pytest.approx(found[0], abs=1e-6)


def test_a_workspace_keeps_what_was_computed_and_none_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    network, data = Curved(), curved_scene()
    segbench.evaluate(network, data, attacks=["fgsm"], eps=["4/255"], device="cpu")
    assert not list(tmp_path.iterdir())
    assert run(network, data, tmp_path / "runs")[1].computed == 2 * 4
    assert run(network, data, tmp_path / "runs")[1].computed == 0
    assert run(network, data, tmp_path / "runs", eps=["4/255", "8/255"])[1].computed == 4
    more = curved_scene(6)  # which begins with the same four
    assert run(network, more, tmp_path / "runs")[1].computed == 2 * 2


def test_a_network_is_known_by_all_that_makes_its_answers(run: Run, tmp_path: Path) -> None:
    """Same weights and class; another attribute, hook, weight, normalisation, or other pixels."""

    class Scaled(Curved):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images * self.scale)

    data = curved_scene(2)
    hooked, moved = Scaled(1.0), Scaled(1.0)
    hooked.head.register_forward_hook(lambda module, given, answer: -answer)
    moved.head.bias.data[0] += 1
    assert run(Scaled(1.0), data, tmp_path)[1].computed == 4
    assert run(Scaled(1.0), data, tmp_path)[1].computed == 0
    for other in (Scaled(0.5), hooked, moved):
        assert run(other, data, tmp_path)[1].computed == 4
    assert run(Scaled(1.0), data, tmp_path, normalize="zscore")[1].computed == 4
    images, labels = data
    images[0, 0, 0, 0] += 0.25 if images[0, 0, 0, 0] < 0.5 else -0.25
    assert run(Scaled(1.0), (images, labels), tmp_path)[1].computed == 2  # that image alone


def test_a_script_may_be_edited_around_its_network(run: Run, tmp_path: Path) -> None:
    """Its class stays the same, and only what is new is computed; not so if the class is edited."""
    script = tmp_path / "script.py"
    data = "(torch.full((1, 1, 32, 32), 0.5), torch.zeros(1, 32, 32).long())"
    ending = f"computed = run(Net(), {data}, workspace, eps=EPS)[1].computed\n"

    def computed(text: str) -> int:
        script.write_text(text + ending)
        given = {"run": run, "workspace": tmp_path / "runs"}
        done = runpy.run_path(str(script), given, run_name="__main__")
        return int(done["computed"])

    assert computed(f"EPS = ['1/255']\n{NETWORK}") == 2
    assert computed(f"# More points.\nEPS = ['1/255', '2/255']\n{NETWORK}") == 1
    edited = NETWORK.replace("torch.tanh", "torch.sin")
    assert computed(f"EPS = ['1/255']\n{edited}") == 2


def test_the_caller_keeps_network_random_numbers_and_precision(run: Run, tmp_path: Path) -> None:
    network = Curved().train()
    images, labels = curved_scene()
    network(images).sum().backward()
    gradient = network.head.weight.grad
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            result, _ = run(network, (images, labels), tmp_path, attacks=["pgd:steps=2"])
            assert torch.is_inference_mode_enabled()
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.benchmark = False
    assert torch.equal(torch.rand(3), expected)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.head.weight.grad is gradient
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    outside, _ = run(network, (images, labels), tmp_path / "outside", attacks=["pgd:steps=2"])
    assert result.cases["jaccard"].tolist() == outside.cases["jaccard"].tolist()


def test_classes_that_the_labels_lack_are_the_networks(run: Run, tmp_path: Path) -> None:
    images, labels = curved_scene()
    result, _ = run(Curved(outputs=5), (images, labels), tmp_path)
    assert set(result.tables.rows["class_name"]) == {f"class {n}" for n in range(1, 5)}
    one, _ = run(Curved(outputs=1), (images, labels), tmp_path / "one")
    assert set(one.tables.rows["class_name"]) == {"foreground"}


def test_names_and_wrappers(run: Run, tmp_path: Path) -> None:
    data = curved_scene(2)
    result, _ = run(nn.DataParallel(Curved()), data, tmp_path)
    assert set(result.cases["model"]) == {"Curved"}
    again, heard = run(Curved(), data, tmp_path)
    assert heard.computed == 0
    named, _ = run(Curved(), data, tmp_path, name="epoch 3")
    assert set(named.cases["model"]) == {"epoch 3"}
    assert repr(named) == "<segbench.Result: epoch 3 under fgsm, 2 cases>"
    assert len(again.notes) > 0


def test_a_case_that_fails_is_named_and_the_others_have_scores(tmp_path: Path) -> None:
    class Picky(Curved):
        def forward(self, images: Tensor) -> Tensor:
            if (images[:, 0, 0, 0] == 1).any():
                raise ValueError("cannot digest this image")
            return super().forward(images)

    images, labels = curved_scene(4)
    images[2, 0, 0, 0] = 1
    with pytest.warns(UserWarning, match="left out: 0002: .*cannot digest") as said:
        result = segbench.evaluate(
            Picky(), (images, labels), attacks=["noise"], eps=[0.01], device="cpu"
        )
    assert said[0].filename == __file__
    assert set(result.cases["case_id"]) == {"0000", "0001", "0003"}
    assert {failure.case_id for failure in result.run.failures} == {"0002"}


def test_what_failed_in_any_run_is_handed_out_with_what_until_settled_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once each, in a record that has asked for all that the tables show."""

    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 8 * (images > 0.5).float() - 4 + 0 * images

    own = tmp_path / "picky_attack.py"
    own.write_text(
        "from dataclasses import dataclass\n"
        "from segbench_attacks.fgsm import FGSM\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Picky(FGSM):\n"
        "    def init(self, context):\n"
        "        if (context.images[:, 0, 0, 0] == 1).any():\n"
        "            raise RuntimeError('not this one')\n"
        "        return super().init(context)\n"
    )
    monkeypatch.setattr("segbench.evaluation.settle.STRONGER", ("fgsm", "pgd:steps=2"))
    images, _ = curved_scene(3)
    images[2, 0, 0, 0] = 1
    data, asked = (
        (images, (images[:, 0] > 0.5).long()),
        {"eps": [0.01], "device": "cpu", "attacks": [f"{own}:Picky"]},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = segbench.evaluate(Flat(), data, until_settled=True, **asked)
    assert [len(run.failures) for run in result.runs] == [1, 0, 0]
    assert [failure.case_id for failure in result.run.failures] == ["0002"]
    assert result.run.failures == result.runs[0].failures
    assert (result.run.run_id, result.run.state) == ("run-00001", "done")
    assert result.run.options["attacks"].keys() == {"picky_attack:Picky"}
    cells = {cell for asked in result.run.asked for cell in asked.cells}
    assert cells == set(result.tables.rows["cell"])


def test_reports_are_written_of_what_was_found(run: Run, tmp_path: Path) -> None:
    result, _ = run(Curved(), curved_scene(2), tmp_path / "runs")
    files = result.report(tmp_path / "out", formats=["csv"])
    assert {path.name for path in files} >= {"summary.csv", "rows.csv"}
    assert all(path.is_file() for path in files)
    with pytest.raises(UserError, match="unknown report 'cvs'; did you mean 'csv'"):
        result.report(tmp_path / "out", formats=["cvs"])


IMAGES, LABELS = curved_scene(2)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"network": 3}, "network is of type int; expected a torch.nn.Module"),
    ({"network": "unet"}, 'looked up among those trained in a workspace; say which, for example'),
    ({"network": "no/net.py:build"}, "model file no/net.py does not exist"),
    ({"network": "net.py:build", "name": "mine"}, "name = 'mine' is for a network in memory"),
    ({"weights": ["w.pt"]}, "weights = 'w.pt' belong to a factory"),
    ({"data": 3}, "data are of type int; expected a data set spec"),
    (
        {"data": SimpleNamespace(entries=len, load=len, fingerprint=len)},
        "the data set SimpleNamespace breaks its contract: class_names is missing",
    ),
    ({"data": "phantom-cx"}, "did you mean 'phantom-cxr'"),
    ({"data": PHANTOMS, "split": "tset"}, "no split 'tset'; did you mean 'test'"),
    ({"data": (255 * IMAGES, LABELS)}, "did you mean images / 255?"),
    ({"data": (IMAGES, LABELS + 7)}, "labels hold 8, but Curved answers with 2 classes, 0 to 1"),
    ({"models": ["unet"]}, "models = ['unet'] is said by the argument network"),
    ({"dataset": "jsrt"}, "dataset = 'jsrt' is said by the argument data"),
    ({"attaks": ["pgd"]}, "no key 'attaks'; did you mean 'attacks'?"),
    ({"attacks": "pgd"}, "attacks = 'pgd'; expected a list"),
    ({"attacks": ["pgdd"]}, "did you mean 'pgd'"),
    ({"attacks": ["uap"]}, "an attack that is fitted first needs a data set with cases"),
    ({"eps": [True]}, "eps true is no number"),
    ({"eps": []}, "needs a budget"),
    ({"limit": 0}, "limit = 0; expected a whole number from 1 up"),
    ({"network": nn.Conv2d(3, 2, 1)}, "it takes 3-channel images, but the data's have 1"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "words"), WRONG)
def test_what_cannot_be_used_is_refused_in_one_sentence(asked: dict[str, Any], words: str) -> None:
    given: Any = {"network": Curved(), "data": (IMAGES, LABELS), "eps": [0.1], "attacks": ["fgsm"]}
    with pytest.raises(UserError) as caught:
        segbench.evaluate(**{**given, **asked})
    assert words in str(caught.value)


def test_a_network_that_cannot_be_copied_says_so() -> None:
    network = Curved()
    network.last = network(IMAGES)  # type: ignore[assignment]  # a tensor with a history
    with pytest.raises(UserError, match="network Curved cannot be copied"):
        segbench.evaluate(network, (IMAGES, LABELS), attacks=["fgsm"], eps=[0.1])
