"""Weights as people save them: taken from whatever lies around them, of which nothing is built."""

from __future__ import annotations

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.errors import UserError
from segbench.training.inert import Checkpoint, Inert, read_inert
from segbench.training.weights import load_weights


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


class Settings:
    """A class of somebody's own, which the reader never sees."""

    def __init__(self) -> None:
        self.lr = 0.1


class Trainer:
    """An object that holds the network among other things."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.log = network, [np.float64(0.5)]


def prefixed(state: dict[str, Tensor], prefix: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + name, value) for name, value in state.items())


SAVED = {
    "numpy scalar beside": lambda n: {"state_dict": n.state_dict(), "best": np.float64(0.9)},
    "namespace beside": lambda n: {"model": n.state_dict(), "args": argparse.Namespace(lr=1e-3)},
    "class of one's own beside": lambda n: {"anything": n.state_dict(), "settings": Settings()},
    "lightning": lambda n: {
        "state_dict": prefixed(n.state_dict(), "model.") | {"loss.weight": torch.ones(2)},
        "optimizer_states": [], "callbacks": {Settings: 1},
    },
    "nnunet": lambda n: {
        "network_weights": n.state_dict(), "logging": {"ema": [np.float32(0.1)]}, "epoch": 5,
    },
    "the network itself": lambda n: n,
    "the network in a map": lambda n: {"net": n, "epoch": 4},
    "an object that holds it": Trainer,
    "parallel in a map": lambda n: {"model": prefixed(n.state_dict(), "module."), "x": Settings()},
    "profiled": lambda n: n.state_dict() | {"0.total_ops": torch.zeros(1)},
    "without counters": lambda n: {
        name: value for name, value in n.state_dict().items() if "num_batches" not in name
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:weights .* ignored")
@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("form", SAVED)
def test_weights_are_found_in_what_people_save(form: str, new: bool, tmp_path: Path) -> None:
    source, target = net(), net()
    source[1].running_mean.fill_(3.0)  # type: ignore[union-attr,operator]
    torch.save(SAVED[form](source), tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    load_weights(target, tmp_path / "w.pth")
    assert all(torch.equal(target.state_dict()[k], v) for k, v in source.state_dict().items())


def test_what_was_ignored_is_said(tmp_path: Path) -> None:
    torch.save(SAVED["lightning"](net()), tmp_path / "w.ckpt")
    with pytest.warns(UserWarning, match="ignored") as caught:
        load_weights(net(), tmp_path / "w.ckpt")
    (said,) = [str(warning.message) for warning in caught]
    assert said.endswith(
        "w.ckpt taken from 'state_dict' less the prefix 'model.': loss.weight, optimizer_states, "
        "callbacks ignored"
    )


def test_of_two_keys_that_fit_the_usual_one_is_taken_and_the_other_named(tmp_path: Path) -> None:
    source, average = net(), net()
    torch.save({"ema": average.state_dict(), "state_dict": source.state_dict()}, tmp_path / "w.pt")
    target = net()
    with pytest.warns(UserWarning, match="other weights that would fit, at ema, ignored"):
        load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.state_dict()["0.weight"], source.state_dict()["0.weight"])


def test_two_networks_in_one_state_dict_are_asked_about(tmp_path: Path) -> None:
    both = prefixed(net().state_dict(), "student.") | prefixed(net().state_dict(), "teacher.")
    torch.save(both, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"begin with 'student\.' or 'teacher\.'"):
        load_weights(net(), tmp_path / "w.pt")


def test_a_prefix_of_the_networks_own_is_added(tmp_path: Path) -> None:
    source, target = net(), nn.ModuleDict({"body": net()})
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.state_dict()["body.0.weight"], source.state_dict()["0.weight"])


def test_another_architectures_weights_are_still_refused(tmp_path: Path) -> None:
    torch.save({"model": net().state_dict(), "args": Settings()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"at 'model'.* do not fit .* was not unpickled"):
        load_weights(nn.Conv2d(1, 1, 1), tmp_path / "w.pt")


class Calls:
    """Asks to have something called when it is unpickled."""

    def __init__(self, *what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return self.what


HOSTILE = {
    "os.system": Calls(os.system, ("touch mark",)),
    "eval": Calls(eval, ("open('mark', 'w')",)),
    "a chain": Calls(getattr, (Calls(__import__, ("os",)), "system")),
    "a state": Calls(Settings, (), {"__class__": "x", "lr": Calls(os.remove, ("w.pt",))}),
    "a slot": Calls(Settings, (), (None, {"__init__": Calls(os.system, ("touch mark",))})),
    "items": Calls(Settings, (), None, iter([1, 2]), iter([("a", 1)])),
}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_in_a_file_is_built_or_called(
    kind: str, new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": net().state_dict(), "more": HOSTILE[kind]}
    torch.save(content, "w.pt", _use_new_zipfile_serialization=new)
    read = read_inert(Path("w.pt").read_bytes()).content
    assert type(read["more"]) is Inert
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pt"]


def test_what_the_reader_is_made_of_cannot_be_changed() -> None:
    """A pickle may set attributes of whatever it names."""
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "FloatStorage"):
        module = "torch" if name.endswith("Storage") else "torch._utils"
        hostile = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"N}X\x01\x00\x00\x00aNs\x86b."
        magic = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
        with pytest.raises(TypeError):
            read_inert(b"".join([*magic, hostile]))


def _tensors(checkpoint: Checkpoint, **changes: Any) -> Tensor:
    stored = checkpoint.content["w"]
    for name, value in changes.items():
        setattr(stored, name, value)
    return checkpoint.tensor(stored)


@pytest.mark.parametrize(
    "changes",
    [{"size": (9, 9)}, {"offset": 10}, {"stride": (100, 1)}, {"size": (-1, 2)}, {"size": "ab"}],
)
def test_a_tensor_may_not_reach_beyond_its_numbers(changes: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"w": torch.arange(6.0).reshape(2, 3), "x": Settings()}, tmp_path / "w.pt")
    checkpoint = read_inert((tmp_path / "w.pt").read_bytes())
    assert torch.equal(_tensors(checkpoint), torch.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match="it has a tensor"):
        _tensors(checkpoint, **changes)
