"""Ensembles and flips: the mean of probabilities, as one differentiable network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.testing import assert_close

import segbench
from segbench.cli import main
from segbench.data import open_dataset
from segbench.errors import MachineError, UserError
from segbench.networks import CombinedReference, ForeignReference, resolve_models
from segbench.networks.wishes import Wishes
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

DATA = "phantom-cxr:size=32,train_cases=2,test_cases=2"
NETS = """
import torch
from torch import nn

def make(seed, channels, **more):
    torch.manual_seed(seed)
    head = nn.Conv2d(4, channels, 3, padding=1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), head)
    for name, value in more.items():
        setattr(network, name, value)
    return network

def one(): return make(0, 1)
def two(): return make(1, 2)
def ended(): return nn.Sequential(make(2, 2), nn.Softmax(1))
class Shut(nn.Module):
    def forward(self, images): raise SystemExit(0)
def shut(): return Shut()
def painted(): return make(3, 2, postprocess=lambda z: z.argmax(1))
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def resolved(text: str, wishes: Wishes | None = None) -> Any:
    (reference,) = resolve_models([text], Workspace(Path("runs")), (), wishes or Wishes())
    return reference


def module(reference: Any) -> tuple[nn.Module, list[nn.Module]]:
    """Its network, and those of its members alone."""
    data = open_dataset(DATA, None)
    return reference.load(data).module, [member.load(data).module for member in reference.members]


def probabilities(network: nn.Module, images: Tensor) -> Tensor:
    logits = network(images)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    return logits.softmax(1)


def test_an_ensemble_answers_with_the_mean_of_probabilities(nets: Path) -> None:
    reference = resolved(f"ensemble:{nets}:one+{nets}:two")
    assert reference.name == "ensemble:nets:one+nets:two"
    whole, members = module(reference)
    images = torch.rand(2, 1, 32, 32, requires_grad=True)
    expected = torch.stack([probabilities(member, images) for member in members]).mean(0)
    assert_close(whole(images).exp(), expected)
    ours, theirs = (
        torch.autograd.grad(p[:, 1].log().sum(), images)[0] for p in (whole(images).exp(), expected)
    )
    assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(1, 1, 6, 5), (1, 1, 4, 3, 5)])
def test_flips_are_all_flips_each_flipped_back(shape: tuple[int, ...]) -> None:
    kind: Any = nn.Conv2d if len(shape) == 4 else nn.Conv3d
    torch.manual_seed(0)
    network, images = kind(1, 2, 3, padding=1), torch.rand(*shape)
    labels = torch.zeros(1, *shape[2:]).long()
    dims = len(shape) - 2
    attacked = segbench.attack(network, images, labels, "fgsm", eps=0.01, tta="flips")
    images.requires_grad_()
    every = [[2 + n for n in range(dims) if bits >> n & 1] for bits in range(2**dims)]
    answers = [network(images.flip(axes)).flip(axes).softmax(1) for axes in every]
    loss = -torch.stack(answers).mean(0)[:, 0].log().sum()
    (gradient,) = torch.autograd.grad(loss, images)
    expected = (images.detach() + 0.01 * gradient.sign()).clamp(0, 1)
    assert_close(attacked, expected)


def test_a_symmetric_answer_stays_the_same_under_flips(nets: Path) -> None:
    whole, _ = module(resolved(f"{nets}:two", Wishes(tta="flips")))
    images = torch.rand(1, 1, 32, 32)
    assert_close(whole(images.flip(2)), whole(images).flip(2))


def test_what_a_combined_network_is_depends_on_its_members_and_flips(nets: Path) -> None:
    data = open_dataset(DATA, None)
    references = [
        resolved(f"ensemble:{nets}:one+{nets}:two"),
        resolved(f"ensemble:{nets}:one+{nets}:ended"),
        resolved(f"ensemble:{nets}:one+{nets}:two", Wishes(tta="flips")),
    ]
    assert references[2].name == "ensemble:nets:one+nets:two (flips)"
    facts = [str(reference.load(data).facts) for reference in references]
    assert len(set(facts)) == 3


def test_members_that_are_not_one_network_each_are_refused(nets: Path) -> None:
    for text, words in (
        (f"ensemble:{nets}:one", "has one member; expected ensemble:a"),
        (f"ensemble:{nets}:one+", "'' means none; expected one network"),
        (f"ensemble:{nets}:one+{nets}:one", "names nets:one more than once"),
        (f"ensemble:{nets}:one+{nets}:two+{nets}:one", "names nets:one more than once"),
    ):
        with pytest.raises(UserError, match=words):
            resolved(text)
    shut = resolved(f"ensemble:{nets}:one+{nets}:shut")
    with pytest.raises(MachineError, match=r"model nets:shut: .* tried to end the process"):
        shut.load(open_dataset(DATA, None))
    painted = resolved(f"ensemble:{nets}:one+{nets}:painted")
    with pytest.raises(UserError, match="nets:painted post-processes its labels"):
        painted.load(open_dataset(DATA, None))


def test_a_plus_may_be_of_a_members_own_name(nets: Path, tmp_path: Path) -> None:
    """As in widths that a spec lists, and in the folder that its checkpoint lies in."""
    folder = nets.rename(tmp_path / "a+b.py")
    assert resolved(f"ensemble:{folder}:one+{folder}:two").name == "ensemble:a+b:one+a+b:two"
    with pytest.raises(UserError, match="unknown model 'unett'; did you mean 'unet'"):
        resolved(f"ensemble:{folder}:one+unett")
    files = [tmp_path / name for name in ("a.pt", "b.pt")]
    text = f"ensemble:{folder}:one+{folder}:two"
    (reference,) = resolve_models([text], Workspace(tmp_path), files)
    assert isinstance(reference, CombinedReference)
    assert [m.weights for m in reference.members if isinstance(m, ForeignReference)] == files


def test_an_ensemble_under_flips_is_attacked_from_the_command_line(
    nets: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, [
        "attack", "-m", f"ensemble:{nets}:two+{nets}:ended", "--tta", "flips", "-a", "pgd:steps=5",
        "--eps", "0.1", "--dataset", DATA, "--workspace", str(tmp_path / "runs"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = read_rows(Workspace(tmp_path / "runs"))
    assert set(rows["model"]) == {"ensemble:nets:two+nets:ended (flips)"}
    accuracy = rows.groupby("attack")["accuracy"].mean()
    assert accuracy["pgd:steps=5"] < accuracy["clean"]


def test_the_references_of_a_command_keep_their_weights_in_order(
    nets: Path, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("a.pt", "b.pt")]
    text = f"ensemble:{nets}:one+{nets}:one"
    (reference,) = resolve_models([text], Workspace(tmp_path), files)
    assert isinstance(reference, CombinedReference)
    weights = [m.weights for m in reference.members if isinstance(m, ForeignReference)]
    assert weights == files
    assert [m.name for m in reference.members] == ["nets:one (a.pt)", "nets:one (b.pt)"]


SMALL = """
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
    def forward(self, images):
        if images.shape[2] * images.shape[3] > 16 * 16:
            raise ValueError("out of its depth")
        return self.conv(images)

class Other(Small):
    pass
"""


@pytest.mark.parametrize("within", ["ensemble", "flips", "front"])
def test_members_are_made_ready_for_tiles_where_they_are_asked_about_tiles(
    within: str, tmp_path: Path
) -> None:
    """Of whole images a network for volumes has not the memory."""
    path = tmp_path / "small.py"
    path.write_text(SMALL)
    text, more = f"{path}:Small", []
    if within == "ensemble":
        text = f"ensemble:{text}+{path}:Other"
    else:
        more = ["--tta", "flips"] if within == "flips" else ["--front", "median"]
    attack = ["attack", "-m", text, *more, "-a", "fgsm", "--eps", "0.1", "--dataset", DATA,
              "--workspace", str(tmp_path / "runs")]  # fmt: skip
    tiled = CliRunner().invoke(main, [*attack, "--tiles", "16"])
    assert tiled.exit_code == 0, tiled.output
    assert set(read_rows(Workspace(tmp_path / "runs"))["attack"]) == {"clean", "fgsm"}
    whole = CliRunner().invoke(main, attack)
    assert whole.exit_code == 2
    assert "out of its depth" in " ".join(whole.output.split())
