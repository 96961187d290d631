"""Fitted attacks: the best perturbation of a linear model, and a training that can be stopped."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toys import Ready, Silence

from segbench.api import Budget, Case, Context, Dataset, Entry, FittedAttack, Goal
from segbench.api.marks import distrusted
from segbench.data import load_dataset
from segbench.engine import ball
from segbench.engine.noise import CaseNoise
from segbench.errors import MachineError, UserError
from segbench.evaluation import fitting
from segbench.evaluation.fitting import Fit
from segbench.evaluation.grid import Cell, Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import DataSource, Options, select_data
from segbench.evaluation.taken import entries_of
from segbench.evaluation.work import open_work
from segbench.plugins.attack import load_attack
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.tensors import save_tensors
from segbench.store.workspace import Workspace

SIDE, EPS = 6, 8 / 255
BRIEF = "epochs=5,batch=4"
NAMES = ("background", "lung")


class Linear(nn.Module):
    """Every pixel's logit is ``s_p (v . x)``, and keeps its sign: the loss falls with ``v . x``."""

    def __init__(self) -> None:
        super().__init__()
        self.v = 0.5 + torch.rand(SIDE * SIDE, generator=torch.Generator().manual_seed(1))
        self.v[::3] *= -1
        self.s = torch.where(torch.arange(SIDE * SIDE) % 4 < 2, 0.1, -0.1)

    def forward(self, images: Tensor) -> Tensor:
        z = images.flatten(1) @ self.v + 10.0
        return (z[:, None] * self.s).view(-1, 1, SIDE, SIDE)


def cases(count: int = 7) -> list[Case]:
    """Images further than eps from the box, labelled as the network answers."""
    noise = torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    labels = (Linear().s > 0).long().view(SIDE, SIDE).numpy()
    return [
        Case(f"c{n}", f"c{n}", (0.2 + 0.6 * image).numpy(), labels, NAMES)
        for n, image in enumerate(noise)
    ]


@pytest.fixture
def fit(prepared: Any) -> Any:
    """A training of an attack, by its spec, against the linear network."""

    def make(
        text: str, size: int = 8, seed: int = 0, eps: str = "8/255", told: list[str] | None = None
    ) -> Fit:
        named = load_attack(text)
        assert isinstance(named.attack, FittedAttack)
        kind = named.attack.budget_kind
        budget = named.attack.budgets[0] if kind == "area" else Budget(kind, Fraction(eps))
        network = prepared(Linear(), torch.from_numpy(np.stack([c.image for c in cases(2)])))
        busy = ([] if told is None else told).append
        return Fit(network, Cell(named, budget, seed), named.attack, cases(), size, busy)

    return make


def context(fit: Fit, restart: int = 0) -> Context:
    images = torch.from_numpy(np.stack([case.image for case in fit.cases]))
    truth = torch.from_numpy(np.stack([case.labels for case in fit.cases]))
    noise = CaseNoise(fit.cell.seed, tuple(c.case_id for c in fit.cases), images.device)
    return Context(images, Goal(truth, truth), fit.cell.budget, noise, restart)


def test_uap_reaches_the_corner_that_is_best_for_all(fit: Any, tmp_path: Path) -> None:
    found = fit(f"uap:{BRIEF}").run(tmp_path / "fit").tensors["delta"]
    torch.testing.assert_close(found, -EPS * Linear().v.sign().view(1, SIDE, SIDE))


def test_uap_in_l2_comes_within_a_hundredth_of_the_best_loss(fit: Any, tmp_path: Path) -> None:
    training = fit(f"uap:norm=l2,{BRIEF}", eps="1/2")
    found = training.run(tmp_path / "fit").tensors["delta"].flatten()
    assert found.norm() <= 0.5 * (1 + 1e-6)
    best = 0.5 * Linear().v.norm()
    assert -(found @ Linear().v) >= 0.99 * best


def test_a_patch_is_black_and_white_against_the_weights(fit: Any, tmp_path: Path) -> None:
    found = fit(f"patch:area=0.25,position=centre,{BRIEF}").run(tmp_path / "fit").tensors["patch"]
    under = Linear().v.view(SIDE, SIDE)[1:4, 1:4]
    torch.testing.assert_close(found[0], (under < 0).float())


@pytest.mark.parametrize("position", ["random", "centre", "corner"])
def test_a_patch_changes_one_square_of_its_area(position: str, fit: Any, tmp_path: Path) -> None:
    training = fit(f"patch:area=0.12,position={position},{BRIEF}")
    fitted, clean = training.run(tmp_path / "fit"), context(training)
    images = training.attack.apply(fitted.tensors, clean)
    changed = (images != clean.images).flatten(1)
    assert (changed.double().mean(1) <= 0.12).all()
    places = [tuple(np.argwhere(one[0].numpy()).min(0)) for one in images != clean.images]
    for image, (row, column) in zip(images, places, strict=True):
        square = image[:, row : row + 2, column : column + 2]
        assert torch.equal(square, fitted.tensors["patch"])
    assert len(set(places)) > 1 if position == "random" else len(set(places)) == 1
    again = training.attack.apply(fitted.tensors, clean)
    assert torch.equal(images, again)
    ball.check(images, clean.images, training.cell.budget, "patch", clean.noise.case_ids)


def test_a_patch_is_a_cube_in_a_volume() -> None:
    attack: Any = load_attack("patch:area=1/64").attack
    assert attack.start((2, 16, 16, 16), attack.budgets[0])["patch"].shape == (2, 4, 4, 4)
    with pytest.raises(UserError, match="less than a pixel"):
        attack.start((1, 4, 4), attack.budgets[0])


def test_more_than_its_area_is_the_attacks_fault() -> None:
    clean = torch.zeros(1, 1, 4, 4)
    images = clean.clone()
    images[..., :2, :3] = 1
    with pytest.raises(MachineError, match=r"changed 0\.375 of the pixels of case a"):
        ball.check(images, clean, Budget("area", Fraction(1, 4)), "liar", ("a",))


SPECS = [f"uap:{BRIEF}", f"uap:norm=l2,{BRIEF}", f"patch:area=0.25,{BRIEF}"]


@pytest.mark.parametrize("text", SPECS)
def test_a_training_does_not_depend_on_how_it_is_computed(
    text: str, fit: Any, tmp_path: Path
) -> None:
    name = "patch" if text.startswith("patch") else "delta"
    torch.manual_seed(1)
    once = fit(text).run(tmp_path / "once").tensors[name]
    torch.manual_seed(2)
    pieces = fit(text, size=3).run(tmp_path / "pieces").tensors[name]
    torch.testing.assert_close(pieces, once, atol=1e-6, rtol=0)


@pytest.mark.parametrize("text", SPECS)
def test_a_killed_training_goes_on_and_a_finished_one_is_read(
    text: str, fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(text).run(tmp_path / "whole")
    keep = fitting._keep

    def killed(path: Path, fitted: Any, epochs: int) -> None:
        keep(path, fitted, epochs)
        if epochs == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fitting, "_keep", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(text).run(tmp_path / "fit")
    epochs = []
    monkeypatch.setattr(fitting, "_keep", lambda *a: (epochs.append(a[2]), keep(*a)))
    told: list[str] = []
    resumed = fit(text, told=told).run(tmp_path / "fit")
    assert epochs == [3, 4, 5]
    assert told == [f"fitting on 7 cases, epoch {n} of 5" for n in epochs]
    read = fit(text).run(tmp_path / "fit")
    assert epochs == [3, 4, 5]
    for name, value in whole.tensors.items():
        assert torch.equal(resumed.tensors[name], value)
        assert torch.equal(read.tensors[name], value)
    assert resumed.precision == read.precision == whole.precision == "fp32"
    path = tmp_path / "fit"
    save_tensors(path, read.tensors, {"epochs": "5"})
    assert fit(text).run(path).precision == "unknown", "it was kept before it was told"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="fit is damaged"):
        fit(text).run(path)


def test_the_seed_decides_where_a_patch_lies(fit: Any, tmp_path: Path) -> None:
    text = f"patch:area=0.25,{BRIEF}"
    found = [fit(text, seed=seed).run(tmp_path / str(seed)).tensors["patch"] for seed in (0, 1)]
    assert not torch.equal(*found)


def test_a_budget_of_zero_is_the_identity(fit: Any, tmp_path: Path) -> None:
    training = fit(f"uap:{BRIEF}", eps="0")
    images = training.attack.apply(training.run(tmp_path / "fit").tensors, context(training))
    assert torch.equal(images, context(training).images)


@pytest.mark.parametrize("name", ["uap", "patch"])
def test_a_network_that_answers_nan_is_refused_with_the_case(
    name: str, fit: Any, tmp_path: Path
) -> None:
    training = fit(f"{name}:{BRIEF}")
    worst = replace(training.cases[3], image=np.full_like(training.cases[3].image, np.nan))
    broken = replace(training, cases=[*training.cases[:3], worst, *training.cases[4:]])
    if name == "patch":  # which hides a part of the image, and the rest is still not a number
        assert broken.cases[3].image.size > 2
    with pytest.raises(UserError, match="on case c3"):
        broken.run(tmp_path / "fit")


class Dark(nn.Module):
    """Lungs are what is dark."""

    def forward(self, images: Tensor) -> Tensor:
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))


def rows_of(root: Path, data: DataSource, options: Options) -> pd.DataFrame:
    attacks = [load_attack(f"uap:{BRIEF}"), load_attack(f"patch:area=0.04+0.1,{BRIEF}")]
    run_model(
        Ready(Dark, "dark"),
        data,
        Grid(attacks, [Fraction(1, 10)]),
        Workspace(root),
        options,
        Silence(),
    )
    return read_rows(Workspace(root))


def test_what_was_trained_on_train_fools_test_whatever_the_batch_size(tmp_path: Path) -> None:
    text = "phantom-cxr:size=32,train_cases=6,test_cases=3"
    dataset = load_dataset(text)
    data = select_data(text, dataset, "test", None)
    rows = rows_of(tmp_path / "two", data, Options("fp32", "cpu", 2))
    means = rows.groupby(["attack", "budget"])["jaccard"].mean()
    clean = means["clean"].item()
    assert (means.drop("clean") < clean).all()
    large = rows_of(tmp_path / "all", data, Options("fp32", "cpu", 8))
    columns = [name for name in rowfile.COLUMNS if name != "seconds"]
    pd.testing.assert_frame_equal(rows[columns], large[columns], atol=1e-4, rtol=0)
    fits = sorted((tmp_path / "two" / "adversarial").glob("*/fitted.safetensors"))
    assert len(fits) == 3
    few = select_data(text, dataset, "test", 2)
    before = [path.stat().st_mtime_ns for path in fits]
    rows_of(tmp_path / "two", few, Options("fp32", "cpu", 2))  # other cells, the same trainings
    assert [path.stat().st_mtime_ns for path in fits] == before


def test_fresh_fits_anew_once(tmp_path: Path) -> None:
    text = "phantom-cxr:size=32,train_cases=6,test_cases=3"
    data = select_data(text, load_dataset(text), "test", 2)
    attack = load_attack("uap:epochs=1,batch=4")
    told: list[str] = []

    class Told(Silence):
        def busy(self, what: str) -> None:
            told.append(what)

    for fresh in (False, True, False):
        options = Options("fp32", "cpu", 1, fresh=fresh)
        run_model(Ready(Dark), data, Grid([attack], [Fraction(8, 255)]), Workspace(tmp_path),
                  options, Told())  # fmt: skip
    assert sum(what.startswith("fitting") for what in told) == 2


@pytest.mark.parametrize("text", [f"uap:{BRIEF}", f"patch:area=0.1,{BRIEF}"])
def test_a_case_that_an_attack_was_fitted_on_is_marked_and_it_is_said(
    text: str, tmp_path: Path
) -> None:
    spec = "phantom-cxr:size=32,train_cases=6,test_cases=3"
    dataset = load_dataset(spec)
    data = DataSource(spec, dataset, "all", entries_of(dataset, "all"))
    grid = Grid([load_attack(text), load_attack("noise")], [Fraction(1, 10)])
    asked = grid, Workspace(tmp_path), Options("fp32", "cpu", 4)
    run_model(Ready(Dark, "dark"), data, *asked, Silence())
    learnt = {entry.case_id for entry in dataset.entries("train")}
    for attack, part in read_rows(Workspace(tmp_path)).groupby("attack", observed=True):
        marked = set(part.loc[part["marks"].str.contains("fitted-case"), "case_id"])
        assert marked == (learnt if str(attack).startswith(text.partition(":")[0]) else set())
    grid, workspace, options = asked
    with open_work(Ready(Dark), data, grid, workspace, 1, options, Silence()) as work:
        (sentence,) = work.fitted_on_own()
    assert "6 of these 9" in sentence
    assert distrusted("fitted-case")
    data = select_data(spec, dataset, "test", None)
    with open_work(Ready(Dark), data, grid, workspace, 1, options, Silence()) as work:
        assert not list(work.fitted_on_own())


def test_images_of_several_shapes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "phantom-cxr:size=32,train_cases=6,test_cases=3"
    dataset = load_dataset(text)
    first, second = dataset.entries("test")[:2]
    load = type(dataset).load

    def wider(self: Dataset, case_id: str) -> Case:
        case = load(self, case_id)
        if case_id != second.case_id:
            return case
        labels = np.pad(case.labels, ((0, 0), (8, 8)))
        return replace(case, image=np.pad(case.image, ((0, 0), (0, 0), (8, 8))), labels=labels)

    monkeypatch.setattr(type(dataset), "load", wider)
    entries = [first, Entry(second.case_id, second.group_id, (1, 32, 48))]
    data = DataSource(text, dataset, "test", entries)
    with pytest.raises(UserError, match=r"\(1, 32, 32\), \(1, 32, 48\); bring them to one"):
        rows_of(tmp_path, data, Options("fp32", "cpu", 2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patch:area=0", "no share of an image"),
        ("patch:area=0.1+1.5", "no share of an image"),
        ("uap:epochs=0", "epochs=0 must be positive"),
        ("uap:target=nothing", "expected empty"),
    ],
)
def test_what_makes_no_attack_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_attack(text)


@pytest.mark.parametrize(
    ("member", "answer", "words"),
    [
        (
            "apply",
            lambda images: images[:1],
            "ContractError: apply returned images of (1, 1, 6, 6)",
        ),
        ("loss", lambda logits: logits.sum(), "ContractError: loss returned (); expected one num"),
        ("learn", lambda fitted: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_fitted_attack_that_breaks_its_contract_is_named(
    member: str, answer: Any, words: str, fit: Any, tmp_path: Path
) -> None:
    whole = fit(f"uap:{BRIEF}")
    first = {"apply": lambda fitted, context: context.images}.get(member, lambda first, *_: first)

    class Odd(type(whole.attack)):  # type: ignore[misc]
        pass

    setattr(Odd, member, lambda self, *given, **named: answer(first(*given)))
    odd = Odd(**vars(whole.attack))
    with pytest.raises(MachineError) as caught:
        replace(whole, attack=odd).run(tmp_path / "fitted.safetensors")
    message = str(caught.value)
    assert message.startswith(
        "attack uap:batch=4,epochs=5 of segbench failed while it was fitted: "
    )
    assert words in message
